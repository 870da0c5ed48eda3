"""The rules, kept by the repository itself. A finding names the place and the cure."""

from __future__ import annotations

import pytest

from tests.house import imports, places, rules
from tests.house.rules import ROOT


def nothing_in(findings: list[str]) -> None:
    if findings:
        pytest.fail("\n".join([f"{len(findings)} found:", *findings]), pytrace=False)


def test_every_file_is_python() -> None:
    nothing_in(rules.unreadable(ROOT))


def test_imports_go_downwards_only() -> None:
    nothing_in(places.broken_floors(ROOT))


def test_every_room_imports_only_what_the_floor_plan_says() -> None:
    nothing_in(imports.off_the_floor_plan(ROOT))


def test_no_import_goes_in_a_circle() -> None:
    nothing_in(imports.import_cycles(ROOT))


def test_the_example_services_use_public_names_only() -> None:
    nothing_in(imports.past_the_front_door(ROOT))


def test_every_function_fits_on_a_page() -> None:
    nothing_in(rules.long_functions(ROOT))


def test_half_of_all_functions_are_short() -> None:
    nothing_in(rules.too_few_short_functions(ROOT))


def test_every_module_is_small() -> None:
    nothing_in(rules.long_modules(ROOT))


def test_no_package_is_crowded() -> None:
    nothing_in(rules.crowded_packages(ROOT))


def test_no_signature_is_wide() -> None:
    nothing_in(rules.wide_signatures(ROOT))


def test_no_module_has_a_name_that_says_nothing() -> None:
    nothing_in(rules.vague_modules(ROOT))


def test_no_class_is_a_manager_a_helper_or_a_base() -> None:
    nothing_in(rules.vague_classes(ROOT))


def test_every_public_name_has_a_docstring() -> None:
    nothing_in(rules.undocumented(ROOT))


def test_nothing_prints() -> None:
    nothing_in(rules.prints(ROOT))


def test_no_module_holds_state_but_the_lane() -> None:
    nothing_in(rules.module_state(ROOT))


def test_every_trap_names_a_test_that_exists() -> None:
    nothing_in(places.unguarded_traps(ROOT))


def test_no_file_names_a_path_of_one_machine() -> None:
    nothing_in(places.machine_paths(ROOT))


def test_no_file_names_a_registry() -> None:
    nothing_in(places.registries(ROOT))


def test_every_dependency_is_locked() -> None:
    nothing_in(places.unlocked(ROOT))


def test_the_front_door_opens_and_every_name_on_it_says_what_it_is() -> None:
    nothing_in(places.front_door_problems(ROOT))


def test_importing_shadowstream_imports_no_extra() -> None:
    nothing_in(places.extras_imported(ROOT))


def test_ruff_finds_nothing() -> None:
    nothing_in(places.tool(ROOT, "ruff", "check", "--output-format=concise", "."))


def test_ruff_would_format_nothing_differently() -> None:
    nothing_in(places.tool(ROOT, "ruff", "format", "--check", "--output-format=concise", "."))


@pytest.mark.timeout(300)  # without a cache, mypy reads all of our dependencies first
def test_mypy_strict_finds_nothing() -> None:
    nothing_in(places.type_errors(ROOT))

"""May this message go on? The room's map, and its traps.

====================  ===============================================================================
``verdict``           what a gate hands out (`Ticket`, `Verdict`), what it is (`Gate`), and the open one
``rate``              how fast: GCRA, hard and soft in one decision (`RateLimit`, `Bucket`)
``ramp``              how much of a limit is open while what is behind it is cold (`Ramp`)
``fleet``             a rate that many processes share, by leases from Redis (`Clerk`, `Stock`)
``cap``               how many at once (`Cap`)
``guard``             what shadow may do while normal suffers (`Guard`, `Share`), by normal's vitals (`Pulse`)
``breaker``           healthy enough: window, permits, generation; pybreaker for the world (`Breaker`)
``keys``              how fast for each user, each promotion (`KeyedLimit`), and the gate behind it (`KeyedGate`)
``chain``             guard, cap, breaker and rate folded into one gate: check all, then take (`Chain`)
``gates``             all gates of one lane, one state for each command (`Gates`)
``guarded``           a command's gate around any call, in either lane (`Guarded`)
``notes``             what is noted of such calls until it is announced
====================  ===============================================================================

Time is an argument, in monotonic seconds; only the threads of ``fleet`` and ``notes`` read a clock. Traps:

* Every admitted ticket must come back through ``leave``, cancelled ones too: a half-open permit or a place under the
  cap is held until then (``test_a_cancelled_trial_gives_its_permit_to_the_next_call``). Twice is harmless
  (``test_a_ticket_given_back_twice_counts_once``).
* pybreaker tells its listeners before it stores the new state, so inside one ``circuit.current_state`` is the old one
  (``test_a_pybreaker_listener_may_use_the_gate_while_it_is_told``).
* The gate's lock is never held while pybreaker or a hook is called, else two threads could wait for each other
  (``test_forcing_the_state_while_the_gate_changes_it_never_deadlocks``).
* A forced open lasts ``open_for_s`` like any other, then half-opens; ``circuit.open()`` again starts it anew
  (``test_a_forced_open_lasts_open_for_from_the_next_decision``).
* A clock that is set back stands still for the limiter until it has caught up: it never admits more
  (``test_a_clock_set_back_admits_no_extra_burst``).
* ``cap`` and half-open refusals carry a short guess as ``wait_s``: whoever sees a call end may ask again at once
  (``test_the_place_under_the_cap_is_free_as_soon_as_a_call_ends``).
* The search of a full table of keys for an idle one stops after 32 looks and goes on in the next decision
  (``test_a_full_table_finds_its_idle_keys_in_a_few_decisions``).
"""

from shadowstream.gate.breaker import Breaker
from shadowstream.gate.cap import Cap
from shadowstream.gate.chain import Chain, Rules, Stages, folded
from shadowstream.gate.gates import Gates
from shadowstream.gate.guarded import Guarded
from shadowstream.gate.keys import KeyedGate, KeyedLimit
from shadowstream.gate.rate import RE_ASK_S, Bucket, RateLimit
from shadowstream.gate.verdict import Gate, OpenGate, Ticket, Verdict

__all__ = [
    "RE_ASK_S",
    "Breaker",
    "Bucket",
    "Cap",
    "Chain",
    "Gate",
    "Gates",
    "Guarded",
    "KeyedGate",
    "KeyedLimit",
    "OpenGate",
    "RateLimit",
    "Rules",
    "Stages",
    "Ticket",
    "Verdict",
    "folded",
]

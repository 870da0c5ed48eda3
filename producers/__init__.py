"""Where the voucher chain begins: `ss_distribution` claims vouchers."""

"""ss_distribution: claims vouchers, over HTTP or called directly, and tells the chain by ``voucher.claimed``."""

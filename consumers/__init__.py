"""The consuming services of the voucher chain, each a folder with its `app.py` and its `shadowstream.yaml`.

================  ===================  ================  ==========================================
service           reads                command           and then produces
================  ===================  ================  ==========================================
``uservoucher``   voucher.claimed      voucher.dispatch  voucher.dispatched
``taskv2``        voucher.dispatched   voucher.use       voucher.used
``ss_business``   voucher.used         voucher.settle    voucher.settled, some voucher.cancelled
================  ===================  ================  ==========================================

What they share: `chain` (the names of the topics, where a service's settings are, its metrics), `state` (the vouchers,
in each lane's own store) and `downstream` (a stand-in for the remote call that a handler waits for).
"""

"""The full-chain stress test: send, watch, compare, judge.

============  =====================================================================
``demo/``     ``shadowstream demo``: leads a chain from start to verdict
``doctor/``   ``shadowstream doctor``: is a service ready for a test?
``trace/``    ``shadowstream trace``: which hops carry the mark
``embedded``  a broker inside this process, for machines without one
``topics``    the chain's topics on a cluster: made for one run, and taken away
``load``      sends on a schedule, whatever comes back
``services``  the chain's services as processes, and the numbers on their pages
``observe``   reads the chain's topics as any other client would, and keeps the books
``verdict``   the laws, as checks over numbers
============  =====================================================================

What is measured is measured from outside: the load knows what it sent and when it meant to, the observer reads the
topics with a plain client, and the services' own pages are held against both.
"""

"""What stands in front of every framework's handlers.

===========  =================================================================
``process``  in which lane this process is
``record``   `Record`: a consumed message of any client
``sieve``    `Sieve`: whose message it is, and whether it may go on now
``stamp``    the mark of the work at hand, put on what is sent
``clients``  what everything that reads through aiokafka shares
``lenient``  aiokafka, so that no header's name can stop it
===========  =================================================================
"""

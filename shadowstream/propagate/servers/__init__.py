"""Servers that restore the lane of a request: middleware for ASGI and WSGI, around any framework.

===========  ===============================================================
``asgi``     Starlette, FastAPI, Django, Quart: requests and websockets
``wsgi``     Flask, Django, Bottle
``answers``  what a request is told that is not taken
===========  ===============================================================
"""

"""Ships what was ordered: worker.py REDIS. With --check: whether the one that runs has been busy lately."""
import os
import pathlib
import sys
import time

from redis import Redis

# Touched whenever redis has answered; older than that, the worker hangs.
ALIVE, PATIENCE_S = pathlib.Path("/tmp/alive"), 10


def ship(host):
    with Redis(host) as redis:
        while True:
            ALIVE.touch()
            order = redis.ask("BLPOP", "orders", 1)
            if order:
                redis.ask("INCR", "shipped")
                print("shipped", order[1])


if sys.argv[1] == "--check":
    sys.exit(time.time() - os.stat(ALIVE).st_mtime > PATIENCE_S)
while True:
    try:
        ship(sys.argv[1])
    except OSError as error:
        print("redis:", error)
        time.sleep(1)

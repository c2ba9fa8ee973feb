"""Cases on the stock Python client (a C++ core): main.py <name server> <label> <case>...

Prints one line "RESULT {json}" per case. The facts in it depend on the server only, so that they can be compared.
The broker-restart case comes last: it prints "WAITING broker-restart" and goes on when a line arrives.
"""

import json
import os
import sys
import threading
import traceback

import cases
from env import Env

LAST = "broker-restart"
output = threading.Lock()


def run_case(env, name):
    result = {"case": name}
    body = cases.CASES.get(name)
    if body is None:
        result["skipped"] = True
    else:
        try:
            facts = {}
            body(env, facts)
            result["facts"] = facts
        except Exception as failure:
            traceback.print_exc()
            result["error"] = repr(failure)
    with output:
        print("RESULT " + json.dumps(result), flush=True)


def await_broker_restart():
    print("WAITING " + LAST, flush=True)
    if not sys.stdin.readline():
        raise EOFError("the broker was not restarted")


def main():
    env = Env(sys.argv[1], sys.argv[2], await_broker_restart)
    names = sys.argv[3:]
    threads = [threading.Thread(target=run_case, args=(env, name)) for name in names if name != LAST]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if LAST in names:
        run_case(env, LAST)
    # The core's threads do not always end by themselves.
    sys.stdout.flush()
    os._exit(0)


main()

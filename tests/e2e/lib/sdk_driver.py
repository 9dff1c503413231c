"""One of Python's SDKs, driven over standard input: `python sdk_driver.py SDK URL TOKEN`, then one line of JSON per call.

Each line is answered by `ok` or by what the SDK raised; at the end of the input the SDK is closed, and `end` says so.
"""

import json
import sys

sdk, url, token = sys.argv[1:4]
FEW = 4  # events of a batch, so that a kill falls between requests, not before the only one


def mixpanel():
    from mixpanel import Consumer, Mixpanel

    mp = Mixpanel(token, consumer=Consumer(
        events_url=url + "/track", people_url=url + "/engage", groups_url=url + "/groups", import_url=url + "/import"))
    return {"track": lambda c: mp.track(c["user"], c["name"], c["properties"]),
            "identify": lambda c: mp.people_set(c["user"], c["properties"]),
            "group": lambda c: mp.group_set("company", c["group"], c["properties"]),
            "end": lambda: None}


def posthog():
    from posthog import Posthog

    ph = Posthog(token, host=url, flush_at=FEW)
    return {"track": lambda c: ph.capture(c["name"], distinct_id=c["user"], properties=c["properties"]),
            "identify": lambda c: ph.set(distinct_id=c["user"], properties=c["properties"]),
            "group": lambda c: ph.group_identify("company", c["group"], c["properties"], distinct_id=c["user"]),
            "end": ph.shutdown}


def of_segment(make):
    client = make(token, host=url, upload_size=FEW)
    return {"track": lambda c: client.track(user_id=c["user"], event=c["name"], properties=c["properties"]),
            "identify": lambda c: client.identify(user_id=c["user"], traits=c["properties"]),
            "group": lambda c: client.group(user_id=c["user"], group_id=c["group"], traits=c["properties"]),
            "end": client.shutdown}


def segment():
    from segment.analytics.client import Client

    return of_segment(Client)


def rudder():
    from rudderstack.analytics.client import Client

    return of_segment(Client)


def amplitude():
    from amplitude import Amplitude, BaseEvent, Config, EventOptions, Identify

    client = Amplitude(token, configuration=Config(server_url=url + "/2/httpapi", flush_queue_size=FEW))

    def sets(properties):
        operations = Identify()
        for name, value in properties.items():
            operations.set(name, value)
        return operations

    def end():
        for sent in client.flush() or []:
            if sent is not None:
                sent.result()
        client.shutdown()

    return {"track": lambda c: client.track(BaseEvent(c["name"], user_id=c["user"], event_properties=c["properties"])),
            "identify": lambda c: client.identify(sets(c["properties"]), EventOptions(user_id=c["user"])),
            "group": lambda c: client.group_identify("company", c["group"], sets(c["properties"]), EventOptions(user_id=c["user"])),
            "end": end}


calls = {"mixpanel": mixpanel, "posthog": posthog, "segment": segment, "rudder": rudder, "amplitude": amplitude}[sdk]()
for line in sys.stdin:
    call = json.loads(line)
    try:
        calls[call["do"]](call)
        print("ok", flush=True)
    except Exception as error:  # what an SDK raises is its word that it gave up
        print("raised", type(error).__name__, flush=True)
calls["end"]()
print("end", flush=True)

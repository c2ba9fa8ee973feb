"""The cases. This client cannot create topics, so every topic is created by the first message sent to it."""

import threading
import time

from rocketmq.client import SendStatus
from rocketmq.ffi import MessageModel

from env import Inbox, bodies, equal, message, settle, wait_for


def send_sync(env, facts):
    topic = env.name("send-sync")
    results = [env.producer.send_sync(message(topic, "tag", body)) for body in bodies("sync", 20)]
    for result in results:
        equal("status", SendStatus.OK, result.status)
    equal("queue offsets", [0, 1, 2, 3, 4], sorted({result.offset for result in results}))
    check_stored(env, topic, bodies("sync", 20), facts)


def send_async(env, facts):
    topic = env.name("send-async")
    env.send(topic, "route", 1)
    statuses, failures = [], []
    for body in bodies("async", 20):
        env.producer.send_async(message(topic, "tag", body), lambda result: statuses.append(result.status),
                                failures.append)
    wait_for("answers", lambda: len(statuses) + len(failures) == 20)
    equal("failures", [], failures)
    equal("statuses", [SendStatus.OK] * 20, statuses)
    check_stored(env, topic, bodies("route", 1) + bodies("async", 20), facts)


def send_oneway(env, facts):
    topic = env.name("send-oneway")
    env.send(topic, "route", 1)
    for body in bodies("oneway", 20):
        env.producer.send_oneway(message(topic, "tag", body))
    check_stored(env, topic, bodies("route", 1) + bodies("oneway", 20), facts)


def send_batch(env, facts):
    """The core sends batch=1, which the original reads as false: it stores each batch as one message.

    OxMQ reads it as true, and the consumer gets the messages that were sent. Either way all is acknowledged.
    """
    topic = env.name("send-batch")
    for prefix in ("a", "b", "c"):
        result = env.producer.send_batch([message(topic, "tag", body) for body in bodies(prefix, 10)])
        equal("status", SendStatus.OK, result.status)


def message_round_trip(env, facts):
    topic = env.name("message-roundtrip")
    texts = ["x", "hütte ☃ 消息 🦀", "compressible " * 10_000]
    for text in texts:
        sent = message(topic, "标签-☃", text)
        sent.set_keys("first second drittér")
        sent.set_property("user", 'vålue, "quotes" and \\ ☃')
        equal("status", SendStatus.OK, env.producer.send_sync(sent).status)
    stored = {received.body: received for received in env.read_all(topic, len(texts))}
    equal("bodies", sorted(texts), sorted(stored))
    for i, text in enumerate(texts):
        received = stored[text]
        equal("tags", "标签-☃", received.tags)
        equal("keys", "first second drittér", received.keys)
        equal("property", 'vålue, "quotes" and \\ ☃', received.user)
        facts[f"size-{i}"] = received.size


def topic_auto(env, facts):
    topic = env.name("topic-auto")
    env.send(topic, "auto", 8)
    equal("queues", {0, 1, 2, 3}, {received.queue for received in env.read_all(topic, 8)})


def consume_concurrent(env, facts):
    topic = env.name("consume-concurrent")
    env.send(topic, "before", 40)
    inbox = Inbox()
    consumer = env.consumer("consume-concurrent", topic, inbox)
    expected = bodies("before", 40)
    inbox.await_exactly("messages of the past", expected)
    # Now every pull waits at the broker, and a new message has to wake one up.
    env.send(topic, "live", 4)
    expected += bodies("live", 4)
    inbox.await_exactly("live messages", expected)
    consumer.shutdown()


def consume_orderly(env, facts):
    topic = env.name("consume-orderly")
    env.send(topic, "0", 1)
    for i in range(10):
        for key in range(4):
            env.producer.send_orderly(message(topic, "tag", f"key{key}-{i:03}"), key)
    inbox = Inbox()
    consumer = env.consumer("consume-orderly", topic, inbox, orderly=True)
    expected = [body for key in range(4) for body in bodies(f"key{key}", 10)]
    inbox.await_exactly("orderly messages", ["0-000"] + expected)
    consumer.shutdown()
    for key in range(4):
        prefix = f"key{key}"
        equal("order", bodies(prefix, 10), [body for body in inbox.bodies() if body.startswith(prefix)])


def consume_broadcast(env, facts):
    topic = env.name("consume-broadcast")
    env.send(topic, "route", 1)
    inboxes = [Inbox(), Inbox()]
    consumers = [env.consumer("consume-broadcast", topic, inbox, message_model=MessageModel.BROADCASTING)
                 for inbox in inboxes]
    # This client starts at the end of a queue that it has no offset for.
    probes = 0
    while not all(len({received.queue for received in inbox.messages}) == 4 for inbox in inboxes):
        probes += 1
        equal("in time", True, probes < 300)
        env.send(topic, f"probe{probes}", 4)
        time.sleep(0.1)
    env.send(topic, "all", 20)
    for inbox in inboxes:
        wait_for("broadcast", lambda: sum(body.startswith("all") for body in inbox.bodies()) >= 20)
        equal("broadcast", bodies("all", 20), sorted(body for body in inbox.bodies() if body.startswith("all")))
    for consumer in consumers:
        consumer.shutdown()


def filter_tags(env, facts):
    topic = env.name("filter-tags")
    for tag in "abcd":
        for i in range(4):
            env.producer.send_sync(message(topic, tag, f"{tag}-{i}"))
    for expression, expected in {"*": 16, "a || b": 8, "c": 4}.items():
        inbox = Inbox()
        consumer = env.consumer(f"filter-tags-{expected}", topic, inbox, expression)
        wait_for(f"messages with {expression}", lambda: len(inbox.messages) >= expected)
        consumer.shutdown()
        equal(f"messages with {expression}", expected, len(inbox.messages))
        facts[expression] = sorted(inbox.bodies())


def rebalance(env, facts):
    topic = env.name("rebalance")
    env.send(topic, "route", 1)
    inboxes = [Inbox(), Inbox()]
    consumers = [env.consumer("rebalance", topic, inbox) for inbox in inboxes]

    def counts(prefix):
        return [sum(body.startswith(prefix) for body in inbox.bodies()) for inbox in inboxes]

    # Probes go on until each consumer has two queues.
    probes = 0

    def shared():
        nonlocal probes
        probes += 1
        prefix = f"probe{probes}-"
        env.send(topic, prefix, 4)
        wait_for("probe", lambda: sum(counts(prefix)) >= 4)
        return counts(prefix) == [2, 2]

    wait_for("two queues each", shared)
    env.send(topic, "shared", 40)
    wait_for("shared messages", lambda: sum(counts("shared")) >= 40)
    equal("shares", [20, 20], counts("shared"))
    consumers[0].shutdown()
    env.send(topic, "alone", 40)
    wait_for("the other takes over", lambda: counts("alone")[1] >= 40)
    equal("shares", [0, 40], counts("alone"))
    consumers[1].shutdown()


def consumer_restart(env, facts):
    topic = env.name("consumer-restart")
    for part in ("first", "second"):
        env.send(topic, part, 20)
        inbox = Inbox()
        consumer = env.consumer("consumer-restart", topic, inbox)
        inbox.await_exactly(part, bodies(part, 20))
        settle()
        consumer.shutdown()


def retry(env, facts):
    """Fails once: this client can only ask for the default delay of 10 s."""
    topic = env.name("retry")
    env.send(topic, "retried", 2)
    inbox = Inbox()
    consumer = env.consumer("retry", topic, inbox, later=lambda received: received.reconsume_times == 0)
    inbox.await_exactly("two deliveries", bodies("retried", 2) * 2)
    consumer.shutdown()
    equal("reconsume times", [0, 1],
          [received.reconsume_times for received in inbox.messages if received.body == "retried-000"])
    facts["topics"] = sorted({received.topic for received in inbox.messages})


def pull(env, facts):
    topic = env.name("pull")
    env.send(topic, "pulled", 100)
    stored = env.read_all(topic, 100)
    equal("bodies", bodies("pulled", 100), sorted(received.body for received in stored))
    for queue in range(4):
        offsets = [received.queue_offset for received in stored if received.queue == queue]
        equal("offsets", list(range(len(offsets))), offsets)


def broker_restart(env, facts):
    """A producer and a consumer that run through it lose nothing; an offline group goes on where it left."""
    topic, kept = env.name("broker-restart"), env.name("broker-restart-kept")
    inbox = Inbox()
    env.send(topic, "before", 20)
    consumer = env.consumer("broker-restart", topic, inbox)
    inbox.await_exactly("before the restart", bodies("before", 20))
    keep_offsets(env, kept, "before")

    acknowledged = []
    stop = threading.Event()

    def try_send(body):
        try:
            env.producer.send_sync(message(topic, "tag", body))
            return True
        except Exception:
            # Refused, so not acknowledged and not expected.
            return False

    def load():
        i = 0
        while not stop.is_set():
            if try_send(f"during-{i}"):
                acknowledged.append(f"during-{i}")
            i += 1
            time.sleep(0.02)

    thread = threading.Thread(target=load)
    thread.start()
    env.await_broker_restart()
    wait_for("a message after the restart", lambda: try_send("after"))
    stop.set()
    thread.join()
    wait_for("all acknowledged messages", lambda: set(acknowledged + ["after"]) <= set(inbox.bodies()))
    consumer.shutdown()
    keep_offsets(env, kept, "after")


def keep_offsets(env, topic, part):
    env.send(topic, part, 20)
    inbox = Inbox()
    consumer = env.consumer("broker-restart-kept", topic, inbox)
    inbox.await_exactly(part, bodies(part, 20))
    settle()
    consumer.shutdown()


def check_stored(env, topic, expected, facts):
    stored = env.read_all(topic, len(expected))
    equal("stored bodies", sorted(expected), sorted(received.body for received in stored))
    first = stored[0]
    equal("keys", "key-" + first.body, first.keys)
    equal("tags", "tag", first.tags)
    facts["size"] = first.size - 2 * len(first.body)


def delay_level(env, facts):
    topic = env.name("delay-level")
    env.send(topic, "route", 1)

    def level(body):
        sent = message(topic, "tag", body)
        sent.set_delay_time_level(1)
        return sent

    check_times(env, topic, {body: (level(body), 1.0) for body in bodies("level", 10)}, facts)


def delay_timer(env, facts):
    """This client knows nothing of times, but takes any property."""
    topic = env.name("delay-timer")
    env.send(topic, "route", 1)

    def timer(body, name, value):
        sent = message(topic, "tag", body)
        sent.set_property(name, str(value))
        return sent

    check_times(env, topic, {
        "time": (timer("time", "TIMER_DELIVER_MS", int(time.time() * 1000) + 3210), 3.0),
        "seconds": (timer("seconds", "TIMER_DELAY_SEC", 2), 2.0),
        "millis": (timer("millis", "TIMER_DELAY_MS", 2345), 2.345),
        "past": (timer("past", "TIMER_DELIVER_MS", 5), 0.0),
    }, facts)


def check_times(env, topic, delayed, facts):
    """Sends the messages and wants each once, and none before its time."""
    due = {}
    for body, (sent, delay_s) in delayed.items():
        due[body] = time.time() + delay_s
        equal("status", SendStatus.OK, env.producer.send_sync(sent).status)
    came = {}

    class Timed(Inbox):
        def add(self, received):
            came.setdefault(received.body.decode(), time.time())
            super().add(received)

    inbox = Timed()
    consumer = env.consumer(topic, topic, inbox)
    inbox.await_exactly("delayed messages", ["route-000"] + list(due))
    consumer.shutdown()
    # A clock of milliseconds, and one that is finer.
    facts["early"] = sorted(body for body in due if came[body] < due[body] - 0.002)
    facts["bodies"] = sorted(inbox.bodies())


CASES = {
    "send-sync": send_sync,
    "send-async": send_async,
    "send-oneway": send_oneway,
    "send-batch": send_batch,
    "message-roundtrip": message_round_trip,
    "topic-auto": topic_auto,
    "consume-concurrent": consume_concurrent,
    "consume-orderly": consume_orderly,
    "consume-broadcast": consume_broadcast,
    "filter-tags": filter_tags,
    "rebalance": rebalance,
    "consumer-restart": consumer_restart,
    "retry": retry,
    "pull": pull,
    "delay-level": delay_level,
    "delay-timer": delay_timer,
    "broker-restart": broker_restart,
}

"""What all cases share: one producer, names, consumers, waiting and checking."""

import threading
import time
from collections import namedtuple
from itertools import count

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage, SendStatus

DEADLINE_S = 120
RECONSUME_LATER = 1

Received = namedtuple("Received", "body tags keys queue queue_offset reconsume_times size topic user")

instances = count()


class Env:
    def __init__(self, namesrv, label, await_broker_restart):
        self.namesrv = namesrv
        self.label = label
        self.await_broker_restart = await_broker_restart
        self.producer = Producer(self.name("shared"), timeout=10_000)
        self.producer.set_namesrv_addr(namesrv)
        self.producer.start()

    def name(self, part):
        """Topic or group of a case: the label keeps clients on one server apart."""
        return f"{self.label}_{part}"

    def send(self, topic, prefix, number):
        for body in bodies(prefix, number):
            equal("status", SendStatus.OK, self.producer.send_sync(message(topic, "tag", body)).status)

    def consumer(self, group, topic, inbox, expression="*", later=None, **options):
        """A started push consumer; a message for which `later` is true is given back."""
        consumer = PushConsumer(self.name(group), **options)
        consumer.set_namesrv_addr(self.namesrv)
        consumer.set_instance_name(f"consumer-{next(instances)}")
        consumer.subscribe(topic, inbox.add, expression)
        if later is not None:
            # An exception in the callback ought to do this, but ctypes swallows it and acknowledges.
            def callback(_, handle):
                inbox.add(RecvMessage(handle))
                return RECONSUME_LATER if later(RecvMessage(handle)) else 0

            consumer._register_callback(callback)
        consumer.start()
        return consumer

    def read_all(self, topic, expected):
        """Everything in the topic, queue by queue in order, once it is as many messages as expected.

        (A message can be pulled a moment after it has been acknowledged.)
        """
        inbox = Inbox()

        def complete():
            consumer = PullConsumer(self.name(f"reader-{next(instances)}"))
            consumer.set_namesrv_addr(self.namesrv)
            consumer.start()
            consumer.offset_table = {}
            inbox.messages.clear()
            for received in consumer.pull(topic):
                inbox.add(received)
            consumer.shutdown()
            return len(inbox.messages) >= expected

        wait_for(f"{expected} messages in {topic}", complete)
        equal(f"messages in {topic}", expected, len(inbox.messages))
        return inbox.messages


class Inbox:
    def __init__(self):
        self.messages = []
        self.lock = threading.Lock()

    def add(self, message):
        """Copies the message, which belongs to the core."""
        user = message.get_property("user")
        with self.lock:
            self.messages.append(
                Received(message.body.decode(), message.tags.decode(), message.keys.decode(), message.queue_id,
                         message.queue_offset, message.reconsume_times, message.store_size, message.topic,
                         user and user.decode()))

    def bodies(self):
        return [message.body for message in self.messages]

    def await_exactly(self, what, expected):
        """Waits until as many messages have come as expected, then wants exactly these, each once."""
        wait_for(what, lambda: len(self.messages) >= len(expected))
        equal(what, sorted(expected), sorted(self.bodies()))


def settle():
    """Gives a consumer the moment that it needs, after the callback has returned, to note what is consumed.

    This client has no way to ask.
    """
    time.sleep(0.5)


def message(topic, tag, body):
    result = Message(topic)
    result.set_tags(tag)
    result.set_keys("key-" + body)
    result.set_body(body)
    return result


def bodies(prefix, number):
    return [f"{prefix}-{i:03}" for i in range(number)]


def wait_for(what, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain for " + what)
        time.sleep(0.05)


def equal(what, expected, actual):
    if expected != actual:
        raise AssertionError(f"{what}: expected {expected}, got {actual}")

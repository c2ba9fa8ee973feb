package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers: concurrent, orderly, broadcasting, filtering, sharing queues, coming back. */
final class ConsumeCases {
    private ConsumeCases() {
    }

    static void concurrent(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("consume-concurrent");
        env.send(topic, "before", 40);
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("consume-concurrent");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        List<String> expected = Env.bodies("before", 40);
        received.awaitExactly("messages of the past", expected);

        // Now every pull waits at the broker, and a new message has to wake one up.
        env.send(topic, "live", 4);
        expected.addAll(Env.bodies("live", 4));
        received.awaitExactly("live messages", expected);
        facts.put("committed", shutdown(env, consumer, topic, 44));

        MessageExt any = received.messages().get(0);
        facts.put("properties", Env.propertyNames(any));
        facts.put("reconsume-times", received.messages().stream().map(MessageExt::getReconsumeTimes)
            .collect(Collectors.toSet()));
    }

    /**
     * Waits until the consumer has noted that all messages are consumed, which is a moment after the listener has
     * returned, and stops it. Then the broker has to know; tells queues, consumer offsets and broker offsets (sums).
     */
    private static List<Long> shutdown(Env env, DefaultMQPushConsumer consumer, String topic, long messages)
        throws Exception {
        env.shutdown(consumer, topic, messages);
        DefaultMQPullConsumer probe = new DefaultMQPullConsumer(consumer.getConsumerGroup());
        probe.setNamesrvAddr(env.namesrv);
        probe.start();
        long[] result = new long[3];
        for (MessageQueue queue : probe.fetchSubscribeMessageQueues(topic)) {
            result[0]++;
            result[1] += probe.fetchConsumeOffset(queue, true);
            result[2] += probe.maxOffset(queue);
        }
        probe.shutdown();
        equal("committed", messages, result[1]);
        return Arrays.stream(result).boxed().collect(Collectors.toList());
    }

    static void orderly(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("consume-orderly");
        env.createTopic(topic, 4);
        List<String> all = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            for (int key = 0; key < 4; key++) {
                String body = String.format("%d-%03d", key, i);
                all.add(body);
                env.producer.send(Env.message(topic, "tag", body),
                    (queues, message, arg) -> queues.get((Integer) arg), key);
            }
        }
        Received received = new Received();
        AtomicBoolean suspended = new AtomicBoolean();
        DefaultMQPushConsumer consumer = env.consumer("consume-orderly");
        consumer.subscribe(topic, "*");
        consumer.setSuspendCurrentQueueTimeMillis(100);
        consumer.registerMessageListener((MessageListenerOrderly) (List<MessageExt> batch,
            ConsumeOrderlyContext context) -> {
            // One refusal in the middle of a queue: the message comes again before the next.
            if (Env.body(batch.get(0)).equals("2-005") && suspended.compareAndSet(false, true)) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            received.add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        received.awaitExactly("orderly messages", all);
        facts.put("committed", shutdown(env, consumer, topic, all.size()));
        check(suspended.get(), "the refusal did not happen");
        for (int key = 0; key < 4; key++) {
            equal("order of queue " + key, Env.bodies(Integer.toString(key), 10),
                received.bodiesOf(new MessageQueue(topic, "broker-a", key)));
        }
    }

    static void broadcast(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("consume-broadcast");
        env.send(topic, "all", 20);
        List<Received> receivers = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Received received = new Received();
            DefaultMQPushConsumer consumer = env.consumer("consume-broadcast");
            consumer.setInstanceName("broadcast-" + i);
            // The enum moved to another package in 5.0.
            var model = consumer.getMessageModel();
            consumer.setMessageModel(Enum.valueOf(model.getDeclaringClass(), "BROADCASTING"));
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(received.concurrently());
            consumer.start();
            receivers.add(received);
            consumers.add(consumer);
        }
        for (Received received : receivers) {
            received.awaitExactly("broadcast", Env.bodies("all", 20));
        }
        consumers.forEach(DefaultMQPushConsumer::shutdown);
        facts.put("received", receivers.stream().map(Received::count).collect(Collectors.toList()));
    }

    static void filterTags(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("filter-tags");
        for (String tag : new String[] {"a", "b", "c", "d", null}) {
            for (int i = 0; i < 4; i++) {
                env.producer.send(Env.message(topic, tag, tag + "-" + i));
            }
        }
        Map<String, Integer> expressions = new TreeMap<>(Map.of("*", 20, "a || b", 8, "c", 4));
        for (Map.Entry<String, Integer> expression : expressions.entrySet()) {
            Received received = new Received();
            DefaultMQPushConsumer consumer = env.consumer("filter-tags-" + expression.getValue());
            consumer.subscribe(topic, expression.getKey());
            consumer.registerMessageListener(received.concurrently());
            consumer.start();
            await("messages with " + expression, () -> received.count() >= expression.getValue());
            consumer.shutdown();
            facts.put(expression.getKey(), received.sortedBodies());
            equal("messages with " + expression, expression.getValue(), received.count());
        }
    }

    /** A group that the broker does not know starts at 0 as long as nothing has been deleted. */
    static void fromWhere(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("consume-from-where");
        env.send(topic, "past", 8);
        for (String where : new String[] {"FIRST_OFFSET", "LAST_OFFSET", "TIMESTAMP"}) {
            Received received = new Received();
            DefaultMQPushConsumer consumer = env.consumer("consume-from-where-" + where);
            consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + where));
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(received.concurrently());
            consumer.start();
            received.awaitExactly(where, Env.bodies("past", 8));
            consumer.shutdown();
            facts.put(where, received.count());
        }
    }

    static void rebalance(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("rebalance");
        env.createTopic(topic, 4);
        Received received = new Received();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            DefaultMQPushConsumer consumer = env.consumer("rebalance");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(received.concurrently());
            consumer.start();
            consumers.add(consumer);
        }
        await("two queues each", () -> queues(consumers.get(0), topic).size() == 2
            && queues(consumers.get(1), topic).size() == 2);
        TreeSet<Integer> together = queues(consumers.get(0), topic);
        together.addAll(queues(consumers.get(1), topic));
        equal("queues of both", 4, together.size());
        env.send(topic, "shared", 40);
        List<String> expected = Env.bodies("shared", 40);
        received.awaitExactly("with two consumers", expected);

        consumers.get(0).shutdown();
        await("the other takes over", () -> queues(consumers.get(1), topic).size() == 4);
        env.send(topic, "alone", 40);
        expected.addAll(Env.bodies("alone", 40));
        received.awaitExactly("with one consumer", expected);
        facts.put("committed", shutdown(env, consumers.get(1), topic, 80));
    }

    private static TreeSet<Integer> queues(DefaultMQPushConsumer consumer, String topic) {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(queue -> queue.getTopic().equals(topic)).map(MessageQueue::getQueueId)
            .collect(Collectors.toCollection(TreeSet::new));
    }

    static void consumerRestart(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("consumer-restart");
        for (String round : new String[] {"first", "second"}) {
            env.send(topic, round, 20);
            Received received = new Received();
            DefaultMQPushConsumer consumer = env.consumer("consumer-restart");
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(received.concurrently());
            consumer.start();
            received.awaitExactly(round, Env.bodies(round, 20));
            facts.put(round, shutdown(env, consumer, topic, round.equals("first") ? 20 : 40));
        }
    }
}

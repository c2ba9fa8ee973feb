package oxmq.interop;

import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumers that ask by themselves. */
final class PullCases {
    private PullCases() {
    }

    static void pull(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("pull");
        env.createTopic(topic, 1);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(env.name("pull"));
        consumer.setNamesrvAddr(env.namesrv);
        consumer.start();
        MessageQueue queue = consumer.fetchSubscribeMessageQueues(topic).iterator().next();
        facts.put("empty", describe(consumer.pull(queue, "*", 0, 10)));
        env.send(topic, "pulled", 20);
        // On the original a queue follows the log by a moment.
        Env.await("the messages in their queue", () -> consumer.maxOffset(queue) == 20);
        facts.put("first", describe(consumer.pull(queue, "*", 0, 8)));
        facts.put("rest", describe(consumer.pull(queue, "*", 8, 32)));
        facts.put("none new", describe(consumer.pull(queue, "*", 20, 32)));
        facts.put("far beyond", describe(consumer.pull(queue, "*", 1000, 32)));
        facts.put("no match", describe(consumer.pull(queue, "other", 0, 32)));
        facts.put("match", describe(consumer.pull(queue, "tag || other", 18, 32)));

        equal("minimum", 0L, consumer.minOffset(queue));
        equal("maximum", 20L, consumer.maxOffset(queue));
        facts.put("offset before commit", consumer.fetchConsumeOffset(queue, true));
        consumer.getDefaultMQPullConsumerImpl().updateConsumeOffset(queue, 12);
        consumer.getOffsetStore().persist(queue);
        consumer.getDefaultMQPullConsumerImpl().persistConsumerOffset();
        Env.await("committed offset", () -> consumer.fetchConsumeOffset(queue, true) == 12);

        CompletableFuture<PullResult> waiting = CompletableFuture.supplyAsync(() -> {
            try {
                return consumer.pullBlockIfNotFound(queue, "*", 20, 32);
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        env.send(topic, "late", 1);
        facts.put("blocking", describe(waiting.get(60, TimeUnit.SECONDS)));
        consumer.shutdown();
    }

    private static Collection<Object> describe(PullResult result) {
        List<String> bodies = result.getMsgFoundList() == null ? List.of()
            : result.getMsgFoundList().stream().map(Env::body).collect(Collectors.toList());
        return Arrays.asList(result.getPullStatus().name(), result.getNextBeginOffset(), result.getMinOffset(),
            result.getMaxOffset(), bodies);
    }

    static void litePull(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("lite-pull");
        env.createTopic(topic, 2);
        env.send(topic, "lite", 20);

        DefaultLitePullConsumer subscribed = new DefaultLitePullConsumer(env.name("lite-pull"));
        subscribed.setNamesrvAddr(env.namesrv);
        subscribed.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        subscribed.subscribe(topic, "*");
        subscribed.start();
        Received received = new Received();
        Env.await("subscribed messages", () -> {
            received.add(subscribed.poll(500));
            return received.count() >= 20;
        });
        received.awaitExactly("subscribed messages", Env.bodies("lite", 20));
        subscribed.commitSync();
        subscribed.shutdown();

        DefaultLitePullConsumer assigned = new DefaultLitePullConsumer(env.name("lite-pull"));
        assigned.setNamesrvAddr(env.namesrv);
        assigned.start();
        Collection<MessageQueue> queues = new TreeSet<>(assigned.fetchMessageQueues(topic));
        assigned.assign(queues);
        List<Long> committed = new ArrayList<>();
        for (MessageQueue queue : queues) {
            committed.add(assigned.committed(queue));
            assigned.seek(queue, 5);
        }
        facts.put("committed", committed);
        List<MessageExt> again = new ArrayList<>();
        Env.await("assigned messages", () -> {
            again.addAll(assigned.poll(500));
            return again.size() >= 10;
        });
        check(again.stream().allMatch(message -> message.getQueueOffset() >= 5), "a message from before the seek");
        equal("assigned messages", 10, again.size());
        facts.put("offset of now", assigned.offsetForTimestamp(queues.iterator().next(),
            System.currentTimeMillis() + 60_000));
        facts.put("offset of the past", assigned.offsetForTimestamp(queues.iterator().next(), 1L));
        assigned.shutdown();
    }
}

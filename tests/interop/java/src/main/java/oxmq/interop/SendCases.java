package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.check;
import static oxmq.interop.Env.equal;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.topic.DeleteTopicSubCommand;

/** Every way of sending, and the topics that it needs. */
final class SendCases {
    private SendCases() {
    }

    static void sync(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("send-sync");
        List<SendResult> results = new ArrayList<>();
        for (String body : Env.bodies("sync", 20)) {
            results.add(env.producer.send(Env.message(topic, "tag", body)));
        }
        checkSends(results, facts);
        checkStored(env, topic, Env.bodies("sync", 20), facts);
    }

    static void async(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("send-async");
        List<CompletableFuture<SendResult>> futures = new ArrayList<>();
        for (String body : Env.bodies("async", 20)) {
            CompletableFuture<SendResult> future = new CompletableFuture<>();
            futures.add(future);
            env.producer.send(Env.message(topic, "tag", body), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    future.complete(result);
                }

                @Override
                public void onException(Throwable failure) {
                    future.completeExceptionally(failure);
                }
            });
        }
        Collection<SendResult> results = new ConcurrentLinkedQueue<>();
        for (CompletableFuture<SendResult> future : futures) {
            results.add(future.get(60, TimeUnit.SECONDS));
        }
        checkSends(results, facts);
        checkStored(env, topic, Env.bodies("async", 20), facts);
    }

    static void oneway(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("send-oneway");
        for (String body : Env.bodies("oneway", 20)) {
            env.producer.sendOneway(Env.message(topic, "tag", body));
        }
        checkStored(env, topic, Env.bodies("oneway", 20), facts);
    }

    static void batch(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("send-batch");
        env.createTopic(topic, 4);
        for (int round = 0; round < 3; round++) {
            List<Message> batch = Env.bodies("batch" + round, 10).stream()
                .map(body -> Env.message(topic, "tag", body)).collect(Collectors.toList());
            if (round == 2) {
                batch.forEach(message -> MessageAccessor.putProperty(message, "nothing", ""));
            }
            SendResult result = env.producer.send(batch, new MessageQueue(topic, "broker-a", 2));
            equal("status", SendStatus.SEND_OK, result.getSendStatus());
            equal("queue offset", 10L * round, result.getQueueOffset());
            facts.put("ids-" + round, result.getMsgId().split(",").length);
            facts.put("offset-ids-" + round, result.getOffsetMsgId().split(",").length);
        }
        List<String> expected = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            expected.addAll(Env.bodies("batch" + round, 10));
        }
        List<MessageExt> stored = env.readAll(topic, 30);
        equal("order", expected, stored.stream().map(Env::body).collect(Collectors.toList()));
        facts.put("properties", Env.propertyNames(stored.get(0)));
        MessageExt nothing = stored.get(20);
        facts.put("empty property", Arrays.asList(nothing.getStoreSize(), Env.propertyNames(nothing)));
    }

    /** Bodies of all kinds, keys, flags and properties come back as they went. */
    static void roundTrip(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("message-roundtrip");
        env.createTopic(topic, 1);
        byte[] noise = new byte[200_000];
        new Random(1).nextBytes(noise);
        byte[] zeros = new byte[1_000_000];
        List<Message> sent = new ArrayList<>();
        for (byte[] body : Arrays.asList("x".getBytes(StandardCharsets.UTF_8), new byte[] {0},
            "hütte ☃ 消息 🦀".getBytes(StandardCharsets.UTF_8), noise, zeros)) {
            Message message = new Message(topic, "标签-☃", body);
            message.setKeys(Arrays.asList("first", "second", "drittér"));
            message.setFlag(42);
            message.setBuyerId("buyer");
            message.putUserProperty("user", "vålue with spaces, \"quotes\" and \\ ☃");
            message.putUserProperty("namé", "1=2");
            sent.add(message);
        }
        Message bare = new Message(topic, "bare".getBytes(StandardCharsets.UTF_8));
        bare.setWaitStoreMsgOK(false);
        // Longer when it is stored, and nothing to a reader.
        MessageAccessor.putProperty(bare, "nothing", "");
        sent.add(bare);

        List<byte[]> bodies = sent.stream().map(Message::getBody).collect(Collectors.toList());
        for (Message message : sent) {
            equal("status", SendStatus.SEND_OK, env.producer.send(message).getSendStatus());
        }
        List<MessageExt> stored = env.readAll(topic, sent.size());
        for (int i = 0; i < stored.size(); i++) {
            MessageExt message = stored.get(i);
            check(Arrays.equals(bodies.get(i), message.getBody()), "body " + i + " changed");
            Map<String, String> expected = new TreeMap<>(sent.get(i).getProperties());
            expected.keySet().retainAll(Arrays.asList("KEYS", "TAGS", "BUYER_ID", "user", "namé"));
            Map<String, String> actual = new TreeMap<>(message.getProperties());
            actual.keySet().retainAll(expected.keySet());
            equal("properties of " + i, expected, actual);
            facts.put("message-" + i, Arrays.asList(message.getFlag(), message.getSysFlag(), message.getStoreSize(),
                message.getBodyCRC(), message.getReconsumeTimes(), message.getQueueOffset(),
                message.getBornHostString(), Env.propertyNames(message)));
        }
    }

    static void autoCreatedTopic(Env env, Map<String, Object> facts) throws Exception {
        DefaultMQProducer two = env.producer("topic-auto");
        two.setDefaultTopicQueueNums(2);
        two.start();
        for (int queues : new int[] {2, 4}) {
            String topic = env.name("topic-auto-" + queues);
            DefaultMQProducer producer = queues == 2 ? two : env.producer;
            producer.send(Env.message(topic, "tag", "first"));
            await("route", () -> !env.admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty());
            var queue = env.admin.examineTopicRouteInfo(topic).getQueueDatas().get(0);
            facts.put("queues-" + queues, Arrays.asList(queue.getReadQueueNums(), queue.getWriteQueueNums(),
                queue.getPerm(), queue.getTopicSysFlag(), queue.getBrokerName()));
            equal("queues", queues, queue.getWriteQueueNums());
        }
        two.shutdown();
    }

    static void adminCreatedTopic(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("topic-admin");
        env.createTopic(topic, 3);
        env.send(topic, "three", 6);
        facts.put("stats-3", offsets(env, topic));
        env.createTopic(topic, 5);
        equal("queues", 5, env.producer.fetchPublishMessageQueues(topic).size());
        facts.put("stats-5", offsets(env, topic));

        // Permissions guide the clients, through the route; the broker itself takes what it gets.
        env.createTopic(topic, 5, 4);
        facts.put("sent in spite of permission", env.producer.send(Env.message(topic, "tag", "refused"),
            new MessageQueue(topic, "broker-a", 0)).getSendStatus().name());

        DeleteTopicSubCommand.deleteTopic(env.admin, "DefaultCluster", topic);
        try {
            env.admin.examineTopicRouteInfo(topic);
            throw new AssertionError("a deleted topic still has a route");
        } catch (MQClientException gone) {
            facts.put("deleted", gone.getResponseCode());
        }
    }

    private static Map<String, List<Long>> offsets(Env env, String topic) throws Exception {
        Map<String, List<Long>> result = new TreeMap<>();
        env.admin.examineTopicStats(topic).getOffsetTable().forEach((queue, offset) ->
            result.put(queue.getBrokerName() + "-" + queue.getQueueId(),
                Arrays.asList(offset.getMinOffset(), offset.getMaxOffset())));
        return result;
    }

    /** Queue offsets count from 0 without a gap, ids have their shape. */
    private static void checkSends(Collection<SendResult> results, Map<String, Object> facts) {
        Map<Integer, TreeSet<Long>> offsets = new TreeMap<>();
        for (SendResult result : results) {
            equal("status", SendStatus.SEND_OK, result.getSendStatus());
            check(result.getMsgId().matches("[0-9A-F]{32}|[0-9A-F]{56}"), "unique id " + result.getMsgId());
            check(result.getOffsetMsgId().matches("[0-9A-F]{32}"), "offset id " + result.getOffsetMsgId());
            offsets.computeIfAbsent(result.getMessageQueue().getQueueId(), id -> new TreeSet<>())
                .add(result.getQueueOffset());
        }
        long total = offsets.values().stream().mapToLong(queue -> queue.last() + 1).sum();
        equal("contiguous queue offsets " + offsets, (long) results.size(), total);
        SendResult first = results.iterator().next();
        facts.put("region", first.getRegionId());
        facts.put("trace-on", first.isTraceOn());
    }

    private static void checkStored(Env env, String topic, List<String> expected, Map<String, Object> facts)
        throws Exception {
        List<MessageExt> stored = env.readAll(topic, expected.size());
        equal("stored bodies", new TreeSet<>(expected), stored.stream().map(Env::body)
            .collect(Collectors.toCollection(TreeSet::new)));
        MessageExt first = stored.get(0);
        equal("keys", "key-" + Env.body(first), first.getKeys());
        equal("tags", "tag", first.getTags());
        facts.put("properties", Env.propertyNames(first));
        facts.put("sizes", stored.stream().map(MessageExt::getStoreSize).collect(Collectors.toSet()));
        facts.put("sys-flags", stored.stream().map(MessageExt::getSysFlag).collect(Collectors.toSet()));
    }
}

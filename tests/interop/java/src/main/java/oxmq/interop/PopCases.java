package oxmq.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.consumer.PopStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.impl.ClientRemotingProcessor;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageQueueAssignment;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.NotificationRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PeekMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PollingInfoRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** POP: by the push consumer, and by the calls it is made of. Clients before 5.0 do not have it. */
final class PopCases {
    private static final long TIMEOUT = 30_000;
    private static final int ORDER_QUEUE = 999;

    private PopCases() {
    }

    /** The calls of one group on one topic. */
    private static final class Popper implements AutoCloseable {
        final Env env;
        final String topic;
        final String group;
        final String addr;
        final String brokerName;
        final MQClientAPIExt api;

        Popper(Env env, String part, int queues) throws Exception {
            env.needsVersion5();
            this.env = env;
            topic = env.name(part);
            group = env.name(part);
            env.createTopic(topic, queues);
            addr = env.brokerAddr();
            brokerName = env.admin.examineTopicRouteInfo(topic).getQueueDatas().get(0).getBrokerName();
            ClientConfig config = new ClientConfig();
            config.setNamesrvAddr(env.namesrv);
            api = new MQClientAPIExt(config, new NettyClientConfig(), new ClientRemotingProcessor(null), null);
            api.start();
        }

        @Override
        public void close() {
            api.shutdown();
        }

        PopMessageRequestHeader request() {
            PopMessageRequestHeader header = new PopMessageRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(topic);
            header.setQueueId(-1);
            header.setMaxMsgNums(32);
            header.setInvisibleTime(60_000);
            header.setInitMode(0);
            header.setExpType("TAG");
            header.setExp("*");
            return header;
        }

        CompletableFuture<PopResult> popLater(PopMessageRequestHeader header) {
            header.setBornTime(System.currentTimeMillis());
            return api.popMessageAsync(addr, brokerName, header, TIMEOUT);
        }

        PopResult pop(PopMessageRequestHeader header) throws Exception {
            return popLater(header).get();
        }

        PopResult pop(int count, long invisibleTime, long pollTime) throws Exception {
            PopMessageRequestHeader header = request();
            header.setMaxMsgNums(count);
            header.setInvisibleTime(invisibleTime);
            header.setPollTime(pollTime);
            return pop(header);
        }

        /** Pops until so many messages have come. */
        List<MessageExt> popAll(int count, long invisibleTime) throws Exception {
            List<MessageExt> found = new ArrayList<>();
            Env.await(count + " messages", () -> {
                found.addAll(messages(pop(32, invisibleTime, 2000)));
                return found.size() >= count;
            });
            Env.equal("messages", count, found.size());
            return found;
        }

        AckResult ack(MessageExt message) throws Exception {
            return ack(handle(message), Long.parseLong(handle(message).split(" ")[7]));
        }

        AckResult ack(String handle, long offset) throws Exception {
            AckMessageRequestHeader header = new AckMessageRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(realTopic(handle));
            header.setQueueId(Integer.parseInt(handle.split(" ")[6]));
            header.setExtraInfo(handle);
            header.setOffset(offset);
            return api.ackMessageAsync(addr, header, TIMEOUT).get();
        }

        AckResult change(MessageExt message, long invisibleTime) throws Exception {
            String[] pieces = handle(message).split(" ");
            ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(realTopic(handle(message)));
            header.setQueueId(Integer.parseInt(pieces[6]));
            header.setExtraInfo(handle(message));
            header.setOffset(Long.parseLong(pieces[7]));
            header.setInvisibleTime(invisibleTime);
            return api.changeInvisibleTimeAsync(addr, brokerName, header, TIMEOUT).get();
        }

        String realTopic(String handle) {
            return "1".equals(handle.split(" ")[4]) ? "%RETRY%" + group + "_" + topic : topic;
        }

        NotificationRequestHeader question(long pollTime) {
            NotificationRequestHeader header = new NotificationRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(topic);
            header.setQueueId(-1);
            header.setPollTime(pollTime);
            header.setBornTime(System.currentTimeMillis());
            return header;
        }

        RemotingCommand call(int code, org.apache.rocketmq.remoting.CommandCustomHeader header, byte[] body)
            throws Exception {
            RemotingCommand request = RemotingCommand.createRequestCommand(code, header);
            request.setBody(body);
            return api.getRemotingClient().invokeSync(addr, request, TIMEOUT);
        }

        long polling() throws Exception {
            PollingInfoRequestHeader header = new PollingInfoRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(topic);
            header.setQueueId(-1);
            return Long.parseLong(call(RequestCode.POLLING_INFO, header, null).getExtFields().get("pollingNum"));
        }

        void send(String tag, String body, int queue) throws Exception {
            Message message = Env.message(topic, tag, body);
            message.putUserProperty("number", String.valueOf(body.length()));
            MessageQueue target = new MessageQueue(topic, brokerName, queue);
            var sent = env.producer.send(message, target);
            Env.equal("send status", SendStatus.SEND_OK, sent.getSendStatus());
            // On the original a queue follows the log by a moment.
            Env.await("the message in its queue", () -> env.admin.maxOffset(target) > sent.getQueueOffset());
        }

        private long committed(MessageQueue queue) throws Exception {
            QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
            header.setConsumerGroup(group);
            header.setTopic(topic);
            header.setQueueId(queue.getQueueId());
            return api.queryConsumerOffset(addr, header, TIMEOUT);
        }

        List<Long> committed() throws Exception {
            List<Long> result = new ArrayList<>();
            for (MessageQueue queue : new TreeSet<>(env.reader.fetchSubscribeMessageQueues(topic))) {
                result.add(committed(queue));
            }
            return result;
        }
    }

    private static String handle(MessageExt message) {
        return message.getProperty(MessageConst.PROPERTY_POP_CK);
    }

    private static List<MessageExt> messages(PopResult result) {
        return result.getMsgFoundList() == null ? List.of() : result.getMsgFoundList();
    }

    private static List<String> bodies(Collection<MessageExt> messages) {
        return messages.stream().map(Env::body).sorted().collect(Collectors.toList());
    }

    /** What a broker alone decides: neither times nor the revive queue, which is taken in turns. */
    private static List<Object> describe(PopResult result) {
        List<Object> facts = new ArrayList<>(Arrays.asList(result.getPopStatus().name(), result.getRestNum()));
        messages(result).stream().map(PopCases::describe).sorted().forEach(facts::add);
        return facts;
    }

    private static String describe(MessageExt message) {
        String[] pieces = handle(message).split(" ");
        return String.join(" ", Env.body(message), message.getTopic().replaceFirst("^.*_", ""), "start=" + pieces[0],
            "invisible=" + pieces[2], "flag=" + pieces[4], "queue=" + pieces[6], "offset=" + pieces[7],
            "times=" + message.getReconsumeTimes(), Env.propertyNames(message).toString());
    }

    /** Where the batch started depends on what came at once. */
    private static String withoutStart(MessageExt message) {
        return describe(message).replaceFirst(" start=\\d+", "");
    }

    private static String describe(AckResult result) {
        return String.valueOf(result.getStatus());
    }

    static void ack(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-ack", 2)) {
            facts.put("empty", describe(popper.pop(8, 60_000, 0)));
            for (int i = 0; i < 7; i++) {
                popper.send("tag", "m" + i, i % 2);
            }
            PopMessageRequestHeader one = popper.request();
            one.setQueueId(1);
            one.setMaxMsgNums(2);
            PopResult first = popper.pop(one);
            facts.put("one queue", describe(first));
            PopResult rest = popper.pop(32, 60_000, 0);
            facts.put("all queues", describe(rest));
            facts.put("nothing left", describe(popper.pop(32, 60_000, 0)));
            Env.await("offsets", () -> popper.committed().equals(List.of(4L, 3L)));
            List<MessageExt> all = new ArrayList<>(messages(first));
            all.addAll(messages(rest));
            List<String> acks = new ArrayList<>();
            for (MessageExt message : all) {
                acks.add(describe(popper.ack(message)));
            }
            acks.add(describe(popper.ack(all.get(0))));
            facts.put("acks", acks);
            facts.put("beyond", describe(popper.ack(handle(all.get(0)), 100)));
            facts.put("before", describe(popper.ack(handle(all.get(0)), -1)));
        }
    }

    static void again(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-again", 1)) {
            for (String body : List.of("acked", "batch-acked", "left", "changed", "also-acked")) {
                popper.send("tag", body, 0);
            }
            Map<String, MessageExt> first = new HashMap<>();
            messages(popper.pop(32, 4000, 0)).forEach(message -> first.put(Env.body(message), message));
            Env.equal("messages", 5, first.size());
            facts.put("acked", describe(popper.ack(first.get("acked"))));
            facts.put("batch", describe(popper.api.batchAckMessageAsync(popper.addr, popper.topic, popper.group,
                List.of(handle(first.get("batch-acked")), handle(first.get("also-acked"))), TIMEOUT).get()));
            AckResult changed = popper.change(first.get("changed"), 1500);
            String[] handle = changed.getExtraInfo().split(" ");
            facts.put("changed", Arrays.asList(describe(changed), handle[0], handle[2], handle[4], handle[6], handle[7]));
            List<MessageExt> again = popper.popAll(2, 60_000);
            facts.put("again", again.stream().map(PopCases::withoutStart).sorted().collect(Collectors.toList()));
            List<String> acks = new ArrayList<>();
            for (MessageExt message : again) {
                acks.add(describe(popper.ack(message)));
                String firstTime = message.getProperty(MessageConst.PROPERTY_FIRST_POP_TIME);
                String popTime = handle(first.get(Env.body(message))).split(" ")[1];
                Env.check(Long.parseLong(firstTime) >= Long.parseLong(popTime), "1ST_POP_TIME " + firstTime);
            }
            facts.put("acked again", acks);
            facts.put("nothing left", describe(popper.pop(32, 60_000, 3000)));
        }
    }

    static void order(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-order", 1)) {
            for (int i = 0; i < 5; i++) {
                popper.send("tag", "m" + i, 0);
            }
            PopMessageRequestHeader header = popper.request();
            header.setOrder(true);
            header.setMaxMsgNums(2);
            header.setInvisibleTime(3000);
            header.setAttemptId("one");
            PopResult first = popper.pop(header);
            facts.put("first", describe(first));
            Env.equal("revive queue", ORDER_QUEUE, Integer.parseInt(handle(messages(first).get(0)).split(" ")[3]));
            facts.put("same attempt", describe(popper.pop(header)));
            header.setAttemptId("two");
            facts.put("blocked", describe(popper.pop(header)));
            header.setPollTime(15_000);
            PopResult visible = popper.pop(header);
            facts.put("visible again", describe(visible));
            header.setPollTime(0);
            List<MessageExt> batch = messages(visible);
            facts.put("second first", describe(popper.ack(batch.get(1))));
            facts.put("offset", popper.committed());
            facts.put("old handle", describe(popper.ack(messages(first).get(0))));
            facts.put("then the first", describe(popper.ack(batch.get(0))));
            facts.put("offset after both", popper.committed());
            facts.put("consumed before", describe(popper.ack(batch.get(0))));
            header.setAttemptId("three");
            PopResult next = popper.pop(header);
            facts.put("next", describe(next));
            AckResult changed = popper.change(messages(next).get(0), 500);
            facts.put("changed", describe(changed));
            facts.put("acked", describe(popper.ack(messages(next).get(1))));
            header.setAttemptId("four");
            header.setPollTime(15_000);
            long before = System.currentTimeMillis();
            facts.put("after the change", describe(popper.pop(header)));
            Env.check(System.currentTimeMillis() - before < 2900, "the queue stayed blocked for the old time");
        }
    }

    static void poll(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-poll", 4)) {
            PopMessageRequestHeader header = popper.request();
            header.setPollTime(20_000);
            header.setExp("wanted || other");
            CompletableFuture<PopResult> waiting = popper.popLater(header);
            Env.await("a waiting request", () -> popper.polling() == 1);
            popper.send("unwanted", "not mine", 2);
            popper.send("wanted", "mine", 2);
            facts.put("woken", messages(waiting.get()).stream().map(PopCases::withoutStart)
                .collect(Collectors.toList()));
            facts.put("waiting", popper.polling());
            long before = System.currentTimeMillis();
            facts.put("in vain", describe(popper.pop(32, 60_000, 600)));
            long took = System.currentTimeMillis() - before;
            Env.check(took >= 500 && took < 3000, "a poll of 600 ms took " + took);

            facts.put("no message", popper.api.notification(popper.addr, popper.question(0), TIMEOUT).get());
            CompletableFuture<Boolean> asked = popper.api.notification(popper.addr, popper.question(20_000), TIMEOUT);
            Thread.sleep(200);
            popper.send("wanted", "noticed", 3);
            facts.put("noticed", asked.get());
            PeekMessageRequestHeader peek = new PeekMessageRequestHeader();
            peek.setConsumerGroup(popper.group);
            peek.setTopic(popper.topic);
            peek.setQueueId(-1);
            peek.setMaxMsgNums(32);
            RemotingCommand peeked = popper.call(RequestCode.PEEK_MESSAGE, peek, null);
            facts.put("peeked", Arrays.asList(peeked.getCode(), peeked.getExtFields().get("restNum")));
            facts.put("taken", describe(popper.pop(32, 60_000, 0)));
            peeked = popper.call(RequestCode.PEEK_MESSAGE, peek, null);
            facts.put("peeked nothing", Arrays.asList(peeked.getCode(), peeked.getExtFields().get("restNum")));
        }
    }

    static void filter(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-filter", 1)) {
            for (String body : List.of("a", "bb", "ccc", "dddd", "eeeee")) {
                popper.send("tag-" + body.charAt(0), body, 0);
            }
            PopMessageRequestHeader header = popper.request();
            header.setExp("tag-a || tag-c");
            facts.put("tags", describe(popper.pop(header)));
            facts.put("passed over", describe(popper.pop(popper.request())));
            Env.await("the offset", () -> popper.committed().equals(List.of(5L)));
            for (String body : List.of("a", "bb", "ccc", "dddd", "eeeee")) {
                popper.send("tag-" + body.charAt(0), body, 0);
            }
            header.setExpType("SQL92");
            header.setExp("number >= 3 AND TAGS <> 'tag-d'");
            facts.put("sql", describe(popper.pop(header)));
            header.setExp("number >=");
            facts.put("wrong sql", code(() -> popper.pop(header)));
        }
    }

    /** A topic of type PRIORITY: the priority is the queue, and the highest is popped first. */
    static void priority(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "priority", 4)) {
            env.createTopic(popper.topic, 4, Map.of("message.type", "PRIORITY"));
            MessageQueue asked = new MessageQueue(popper.topic, popper.brokerName, 1);
            List<String> sent = new ArrayList<>();
            for (String priority : List.of("1", "3", "0", "9", "2", "3", "-1", "x", "2147483648")) {
                Message message = Env.message(popper.topic, "tag", priority + "#" + sent.size());
                MessageAccessor.putProperty(message, "_SYS_MSG_PRIORITY_", priority);
                sent.add(priority + "@" + env.producer.send(message, asked).getMessageQueue().getQueueId());
            }
            Message ordered = Env.message(popper.topic, "tag", "ordered");
            MessageAccessor.putProperty(ordered, "_SYS_MSG_PRIORITY_", "3");
            MessageAccessor.putProperty(ordered, MessageConst.PROPERTY_SHARDING_KEY, "key");
            sent.add("with sharding key@" + env.producer.send(ordered, asked).getMessageQueue().getQueueId());
            facts.put("sent", sent);
            List<String> popped = new ArrayList<>();
            Env.await("all", () -> {
                for (MessageExt message : messages(popper.pop(1, 60_000, 2000))) {
                    Env.equal("acknowledged", AckStatus.OK, popper.ack(message).getStatus());
                    popped.add(Env.body(message) + " " + message.getQueueId() + " "
                        + message.getProperty("_SYS_MSG_PRIORITY_"));
                }
                return popped.size() >= sent.size();
            });
            facts.put("popped", popped);
            Message later = Env.message(popper.topic, "tag", "later");
            MessageAccessor.putProperty(later, "_SYS_MSG_PRIORITY_", "3");
            later.setDelayTimeLevel(1);
            env.producer.send(later, asked);
            MessageExt due = popper.popAll(1, 60_000).get(0);
            facts.put("delayed", due.getQueueId() + " " + due.getProperty("_SYS_MSG_PRIORITY_"));
            facts.put("filled", popper.committed());
        }
    }

    static void wrong(Env env, Map<String, Object> facts) throws Exception {
        try (Popper popper = new Popper(env, "pop-wrong", 2)) {
            popper.send("tag", "m", 0);
            facts.put("topic", code(() -> {
                PopMessageRequestHeader header = popper.request();
                header.setTopic("none");
                popper.pop(header);
            }));
            facts.put("queue", code(() -> {
                PopMessageRequestHeader header = popper.request();
                header.setQueueId(2);
                popper.pop(header);
            }));
            facts.put("count", code(() -> popper.pop(33, 60_000, 0)));
            facts.put("group", code(() -> {
                PopMessageRequestHeader header = popper.request();
                header.setConsumerGroup("not allowed!");
                popper.pop(header);
            }));
            PopMessageRequestHeader late = popper.request();
            late.setBornTime(System.currentTimeMillis() - 10_000);
            facts.put("late", popper.call(RequestCode.POP_MESSAGE, late, null).getCode());
            Map<String, Object> handles = new HashMap<>();
            for (String handle : List.of("", "x", "0 1 60000 0 0", "0 1 60000 77 0 b 0 0", "a 1 60000 0 0 b 0 0",
                "0 1 60000 0 9 b 0 0", "-5 -1 -1 0 0 b 0 0")) {
                handles.put(handle, Arrays.asList(ackCode(popper, handle, 0, 0), ackCode(popper, handle, 0, 2),
                    ackCode(popper, handle, 2, 0), ackCode(popper, handle, -1, 0)));
            }
            facts.put("handles", handles);
            facts.put("no batch", popper.call(RequestCode.BATCH_ACK_MESSAGE, null, "{}".getBytes(StandardCharsets.UTF_8))
                .getCode());
            facts.put("no body", popper.call(RequestCode.BATCH_ACK_MESSAGE, null, null).getCode());
            Map<String, Object> changes = new HashMap<>();
            for (long offset : new long[] {-1, 1, 2}) {
                ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
                header.setConsumerGroup(popper.group);
                header.setTopic(popper.topic);
                header.setQueueId(0);
                header.setExtraInfo("0 1 60000 0 0 b 0 0");
                header.setOffset(offset);
                header.setInvisibleTime(1000L);
                changes.put(String.valueOf(offset),
                    popper.call(RequestCode.CHANGE_MESSAGE_INVISIBLETIME, header, null).getCode());
            }
            facts.put("changes", changes);
        }
    }

    private static int ackCode(Popper popper, String handle, int queue, long offset) throws Exception {
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setConsumerGroup(popper.group);
        header.setTopic(popper.topic);
        header.setQueueId(queue);
        header.setExtraInfo(handle);
        header.setOffset(offset);
        return popper.call(RequestCode.ACK_MESSAGE, header, null).getCode();
    }

    private interface Call {
        void run() throws Exception;
    }

    private static int code(Call call) throws Exception {
        try {
            call.run();
            return 0;
        } catch (ExecutionException failure) {
            if (failure.getCause() instanceof MQBrokerException) {
                return ((MQBrokerException) failure.getCause()).getResponseCode();
            }
            throw failure;
        }
    }

    static void assignment(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        String topic = env.name("pop-assignment");
        String group = env.name("pop-assignment");
        env.createTopic(topic, 4);
        DefaultMQPushConsumer consumer = env.consumer("pop-assignment");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
            ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        String clientId = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        var api = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getMQClientAPIImpl();
        String addr = env.brokerAddr();
        Env.await("the member", () ->
            api.getConsumerIdListByGroup(addr, group, TIMEOUT).equals(List.of(clientId)));
        String[] strategies = {"AVG", "AVG_BY_CIRCLE", "CONSISTENT_HASH"};
        for (String strategy : strategies) {
            facts.put("pull " + strategy, queues(api.queryAssignment(addr, topic, group, clientId, strategy,
                MessageModel.CLUSTERING, TIMEOUT)));
        }
        facts.put("broadcasting", queues(api.queryAssignment(addr, topic, group, clientId, "AVG",
            MessageModel.BROADCASTING, TIMEOUT)));
        facts.put("stranger", queues(api.queryAssignment(addr, topic, group, "stranger", "AVG",
            MessageModel.CLUSTERING, TIMEOUT)));
        facts.put("other group", queues(api.queryAssignment(addr, topic, "other", clientId, "AVG",
            MessageModel.CLUSTERING, TIMEOUT)));
        env.admin.setMessageRequestMode(addr, topic, group, MessageRequestMode.POP, 0, TIMEOUT);
        facts.put("pop", queues(api.queryAssignment(addr, topic, group, clientId, "AVG", MessageModel.CLUSTERING,
            TIMEOUT)));
        facts.put("retry topic", queues(api.queryAssignment(addr, "%RETRY%" + group, group, clientId, "AVG",
            MessageModel.CLUSTERING, TIMEOUT)));
        consumer.shutdown();
    }

    private static List<String> queues(Set<MessageQueueAssignment> assignments) {
        if (assignments == null) {
            return null;
        }
        return assignments.stream()
            .map(one -> one.getMode() + " " + one.getMessageQueue().getQueueId())
            .sorted().collect(Collectors.toList());
    }

    /** The push consumer in POP mode; {@code retried}: a message that is refused once comes again, after 10 s. */
    private static void push(Env env, Map<String, Object> facts, String part, boolean retried) throws Exception {
        env.needsVersion5();
        String topic = env.name(part);
        env.createTopic(topic, 4);
        env.admin.setMessageRequestMode(env.brokerAddr(), topic, env.name(part), MessageRequestMode.POP, 0, TIMEOUT);
        env.send(topic, "before", 20);
        Map<String, List<Integer>> received = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = env.consumer(part);
        consumer.setClientRebalance(false);
        consumer.subscribe(topic, MessageSelector.byTag("*"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                received.computeIfAbsent(Env.body(message), body -> Collections.synchronizedList(new ArrayList<>()))
                    .add(message.getReconsumeTimes());
                if (retried && Env.body(message).equals("later-003") && message.getReconsumeTimes() == 0) {
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Env.await("past messages", () -> received.size() == 20);
        env.send(topic, "later", 20);
        Env.await("live messages", () -> received.size() == 40);
        if (retried) {
            Env.await("the message again", () -> received.get("later-003").size() == 2);
        }
        facts.put("times", new java.util.TreeMap<>(received));
        TimeUnit.MILLISECONDS.sleep(300);
        consumer.shutdown();
    }

    static void push(Env env, Map<String, Object> facts) throws Exception {
        push(env, facts, "pop-push", false);
    }

    static void pushRetry(Env env, Map<String, Object> facts) throws Exception {
        push(env, facts, "pop-push-retry", true);
    }
}

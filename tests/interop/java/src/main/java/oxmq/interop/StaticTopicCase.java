package oxmq.interop;

import static oxmq.interop.Env.check;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Logical queues on two brokers: mqadmin makes a static topic on one, moves it to the other and back, and lets it grow.
 * Producers and consumers that know only the logical queues go on.
 */
final class StaticTopicCase {
    private static final String LOGICAL = "__syslo__global__";
    private static final int QUEUES = 4;

    private final Env env;
    private final Map<String, Object> facts;
    private final String topic;
    private final DefaultMQProducer producer;
    private final DefaultMQPullConsumer reader;
    private final DefaultMQAdminExt admin;
    private int sent;

    private StaticTopicCase(Env env, Map<String, Object> facts) throws Exception {
        this.env = env;
        this.facts = facts;
        topic = env.name("static");
        producer = env.producer("static");
        producer.setInstanceName("static");
        producer.setPollNameServerInterval(300);
        producer.start();
        reader = new DefaultMQPullConsumer(env.name("static-reader"));
        reader.setNamesrvAddr(env.namesrv);
        reader.setInstanceName("static-reader");
        reader.setPollNameServerInterval(300);
        reader.start();
        admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(env.namesrv);
        admin.setAdminExtGroup("admin-static");
        admin.setInstanceName("static-admin");
        admin.setPollNameServerInterval(300);
        admin.start();
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        env.needsVersion5();
        new StaticTopicCase(env, facts).scenario();
    }

    private void scenario() throws Exception {
        mqadmin("updateStaticTopic", "-t", topic, "-b", "broker-a", "-qn", String.valueOf(QUEUES));
        awaitLeader("broker-a", QUEUES);
        mapping("created");
        Received received = new Received();
        DefaultMQPushConsumer consumer = env.consumer("static-group");
        consumer.setInstanceName("static-consumer");
        consumer.setPollNameServerInterval(300);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(received.concurrently());
        consumer.start();
        facts.put("queues", names(producer.fetchPublishMessageQueues(topic)));
        facts.put("sent", send(10));
        facts.put("unmapped queue", code(() -> producer.send(Env.message(topic, "tag", "x"), new MessageQueue(topic, LOGICAL, 9))));
        facts.put("read", read());
        ends("ends");
        Env.await("the first messages", () -> received.count() == sent);

        // A client that learns late that a queue has moved.
        DefaultMQProducer late = env.producer("static-late");
        late.setInstanceName("static-late");
        late.setRetryTimesWhenSendFailed(0);
        late.start();
        late.send(Env.message(topic, "tag", "late"), new MessageQueue(topic, LOGICAL, 0));
        sent++;
        mqadmin("remappingStaticTopic", "-t", topic, "-b", "broker-b");
        facts.put("late", code(() -> late.send(Env.message(topic, "tag", "later"), new MessageQueue(topic, LOGICAL, 0))));
        late.shutdown();
        awaitLeader("broker-b", QUEUES);
        mapping("moved");
        facts.put("sent after the move", send(5));
        facts.put("read after the move", read());
        ends("ends after the move");
        facts.put("far beyond", status(reader.pull(queue(1), "*", 500_000, 32)));
        facts.put("in the gap", status(reader.pull(queue(1), "*", 77, 32)));
        Env.await("messages after the move", () -> received.count() == sent);

        mqadmin("remappingStaticTopic", "-t", topic, "-b", "broker-a");
        awaitLeader("broker-a", QUEUES);
        mapping("moved back");
        facts.put("sent after moving back", send(5));
        facts.put("read after moving back", read());
        ends("ends after moving back");
        offsets();
        Env.await("messages after moving back", () -> received.count() == sent);
        consumer.shutdown();

        mqadmin("updateStaticTopic", "-t", topic, "-c", "DefaultCluster", "-qn", String.valueOf(QUEUES + 2));
        Env.await("more queues", () -> producer.fetchPublishMessageQueues(topic).size() == QUEUES + 2);
        mapping("grown");
        for (int id = QUEUES; id < QUEUES + 2; id++) {
            MessageQueue queue = queue(id);
            Env.await("a route to queue " + id, () -> producer.send(Env.message(topic, "tag", "grown"), queue).getQueueOffset() == 0);
        }
        facts.put("grown", names(producer.fetchPublishMessageQueues(topic)));
        ends("ends after growing");

        mqadmin("deleteTopic", "-t", topic, "-c", "DefaultCluster");
        Env.await("no route", () -> code(() -> admin.examineTopicRouteInfo(topic)).equals(17));
        reader.shutdown();
        producer.shutdown();
        admin.shutdown();
    }

    private void mqadmin(String... command) {
        List<String> arguments = new ArrayList<>(List.of(command));
        arguments.addAll(List.of("-n", env.namesrv));
        MQAdminStartup.main0(arguments.toArray(new String[0]), null);
    }

    private MessageQueue queue(int id) {
        return new MessageQueue(topic, LOGICAL, id);
    }

    /** Waits until all clients here know where the queues are, and the brokers where the others are, which requests show. */
    private void awaitLeader(String broker, int queues) throws Exception {
        Env.await(broker + " to lead", () -> admin.examineTopicRouteInfo(topic).toJson().contains("\"" + broker + "\""));
        for (int id = 0; id < queues; id++) {
            MessageQueue queue = queue(id);
            Env.await("a reader's route", () -> reader.maxOffset(queue) >= 0);
            Env.await("an admin's route", () -> admin.maxOffset(queue) >= 0);
            Env.await("a producer's route", () -> producer.maxOffset(queue) >= 0);
            Env.await("the first item", () -> reader.minOffset(queue) >= 0 && reader.earliestMsgStoreTime(queue) != 0);
        }
    }

    private List<String> send(int count) throws Exception {
        List<String> result = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            for (int id = 0; id < QUEUES; id++) {
                SendResult stored = producer.send(Env.message(topic, "tag", "m-" + sent++), queue(id));
                if (i == 0 || i == count - 1) {
                    result.add(stored.getSendStatus() + " " + stored.getMessageQueue().getBrokerName() + ":"
                        + stored.getMessageQueue().getQueueId() + "@" + stored.getQueueOffset());
                }
            }
        }
        return result;
    }

    /** Every queue from its begin, as the answers lead. */
    private Map<String, List<String>> read() throws Exception {
        Map<String, List<String>> result = new TreeMap<>();
        for (int id = 0; id < QUEUES; id++) {
            List<String> steps = new ArrayList<>();
            long offset = 0;
            PullResult pulled;
            do {
                pulled = reader.pull(queue(id), "*", offset, 32);
                steps.add(status(pulled));
                if (pulled.getPullStatus() == PullStatus.FOUND) {
                    for (MessageExt message : pulled.getMsgFoundList()) {
                        Env.equal("queue id", id, message.getQueueId());
                        Env.equal("broker name", LOGICAL, message.getBrokerName());
                        steps.add(message.getQueueOffset() + "=" + Env.body(message));
                    }
                }
                check(pulled.getNextBeginOffset() > offset || pulled.getPullStatus() == PullStatus.NO_NEW_MSG,
                    "no progress behind " + offset + " of " + id + ": " + pulled);
                offset = pulled.getNextBeginOffset();
            } while (pulled.getPullStatus() != PullStatus.NO_NEW_MSG);
            result.put("queue " + id, steps);
        }
        return result;
    }

    private static String status(PullResult pulled) {
        return pulled.getPullStatus() + " next " + pulled.getNextBeginOffset() + " in " + pulled.getMinOffset() + "-"
            + pulled.getMaxOffset();
    }

    /** What is said about the ends of each queue, by each who can be asked. */
    private void ends(String step) throws Exception {
        Map<String, String> result = new TreeMap<>();
        for (int id = 0; id < QUEUES; id++) {
            MessageQueue queue = queue(id);
            result.put(String.valueOf(id), reader.minOffset(queue) + "-" + reader.maxOffset(queue)
                + ", begins with " + reader.searchOffset(queue, 0)
                + (reader.earliestMsgStoreTime(queue) > 0 ? ", has a time" : ", has no time"));
        }
        admin.examineTopicStats(topic).getOffsetTable().forEach((queue, offset) -> result.put(
            queue.getBrokerName() + ":" + queue.getQueueId(), offset.getMinOffset() + "-" + offset.getMaxOffset()));
        facts.put(step, result);
    }

    /** A group's offsets in every item. */
    private void offsets() throws Exception {
        MessageQueue queue = queue(2);
        List<Long> result = new ArrayList<>();
        result.add(reader.fetchConsumeOffset(queue, true));
        long end = reader.maxOffset(queue);
        for (long offset : new long[] {3, 10, end - 20_000 + 10_002, end}) {
            reader.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(queue, offset, false);
            result.add(reader.fetchConsumeOffset(queue, true));
        }
        facts.put("offsets of a group", result);
    }

    /** What each broker knows, without what is different in each run. */
    private void mapping(String step) throws Exception {
        Map<String, String> result = new TreeMap<>();
        for (String broker : List.of("broker-a", "broker-b")) {
            String addr = admin.examineBrokerClusterInfo().getBrokerAddrTable().get(broker).selectBrokerAddr();
            String json = RemotingSerializable.toJson(admin.examineTopicConfig(addr, topic), false);
            result.put(broker, json.replaceAll("\"epoch\":\\d+", "\"epoch\":0"));
        }
        facts.put(step + ": mapping", result);
    }

    private static Collection<String> names(Collection<MessageQueue> queues) {
        Collection<String> result = new TreeSet<>();
        queues.forEach(queue -> result.add(queue.getBrokerName() + ":" + queue.getQueueId()));
        return result;
    }

    private static Object code(java.util.concurrent.Callable<?> request) throws Exception {
        try {
            request.call();
            return 0;
        } catch (MQBrokerException refused) {
            return refused.getResponseCode();
        } catch (org.apache.rocketmq.client.exception.MQClientException refused) {
            return refused.getResponseCode();
        }
    }
}

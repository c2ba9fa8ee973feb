package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** What becomes of messages that consumers give back, where the rules have corners. */
final class RetryCornerCases {
    private static final int SEND_MESSAGE_BACK = 36;

    private final Env env;
    private final Map<String, Object> facts;
    private final MessageExt message;

    private RetryCornerCases(Env env, Map<String, Object> facts, MessageExt message) {
        this.env = env;
        this.facts = facts;
        this.message = message;
    }

    static void run(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("retry-corners");
        env.createTopic(topic, 1);
        env.send(topic, "back", 1);
        new RetryCornerCases(env, facts, env.readAll(topic, 1).get(0)).run();
    }

    private void run() throws Exception {
        createGroup("level-1", 1, 16);
        back("level-1", fields("level-1", 1));
        arrived("%RETRY%", "level-1");

        createGroup("forbidden", 1, 16);
        back("forbidden", fields("forbidden", -1));
        arrived("%DLQ%", "forbidden");
        facts.put("dead letters", routeOf("%DLQ%" + env.name("forbidden")));

        createGroup("no-queue", 0, 16);
        back("no-queue", fields("no-queue", 1));

        createGroup("three-queues", 3, 16);
        back("three-queues", fields("three-queues", 1));
        facts.put("three-queues route", routeOf("%RETRY%" + env.name("three-queues")));

        createGroup("never", 1, 0);
        back("never", fields("never", 3));
        arrived("%DLQ%", "never");

        createGroup("client-says-no", 1, 16);
        Map<String, String> own = fields("client-says-no", 3);
        own.put("maxReconsumeTimes", "0");
        back("client-says-no", own);
        arrived("%DLQ%", "client-says-no");

        createGroup("client-says-yes", 1, 0);
        own = fields("client-says-yes", 1);
        own.put("maxReconsumeTimes", "5");
        back("client-says-yes", own);
        arrived("%RETRY%", "client-says-yes");

        // Sends to the retry topic, as clients do when giving back has failed.
        createGroup("sent", 1, 2);
        back("sent", fields("sent", 1));
        arrived("%RETRY%", "sent");
        sendToRetryTopic("sent", 2, null);
        sendToRetryTopic("sent", 3, null);
        sendToRetryTopic("sent", 3, "5");
        sendToRetryTopic("sent", 1, "0");
        List<MessageExt> dead = env.readAll("%DLQ%" + env.name("sent"), 2);
        facts.put("sent, dead", Arrays.asList(shape(dead.get(0)), shape(dead.get(1))));
        facts.put("sent, alive", env.readAll("%RETRY%" + env.name("sent"), 3).size());

        back("a/b", fields("a/b", 1));
        Map<String, String> nowhere = fields("level-1", 1);
        nowhere.put("offset", Long.toString(Long.MAX_VALUE / 2));
        back("nowhere", nowhere);

        // The deepest level is beyond the last one; the message waits in the queue of that.
        createGroup("deep", 1, 16);
        back("deep", fields("deep", 99));
        facts.put("deep", inSchedule(17, "%RETRY%" + env.name("deep")));
        createGroup("deepest-default", 1, 16);
        back("deepest-default", fields("deepest-default", 0));
        facts.put("deepest-default", inSchedule(2, "%RETRY%" + env.name("deepest-default")));

        env.createTopic("%RETRY%" + env.name("level-1"), 1, 4);
        back("closed", fields("level-1", 1));
    }

    private void createGroup(String group, int retryQueues, int retryTimes) throws Exception {
        // The class of the settings lies in another package in 4.x.
        var method = Arrays.stream(env.admin.getClass().getMethods())
            .filter(candidate -> candidate.getName().equals("createAndUpdateSubscriptionGroupConfig")).findFirst().get();
        Object config = method.getParameterTypes()[1].getConstructor().newInstance();
        Class<?> kind = config.getClass();
        kind.getMethod("setGroupName", String.class).invoke(config, env.name(group));
        kind.getMethod("setRetryQueueNums", int.class).invoke(config, retryQueues);
        kind.getMethod("setRetryMaxTimes", int.class).invoke(config, retryTimes);
        method.invoke(env.admin, env.brokerAddr(), config);
    }

    private Map<String, String> fields(String group, int delayLevel) {
        Map<String, String> fields = new HashMap<>();
        fields.put("offset", Long.toString(message.getCommitLogOffset()));
        fields.put("group", env.name(group));
        fields.put("delayLevel", Integer.toString(delayLevel));
        fields.put("originMsgId", message.getMsgId());
        fields.put("originTopic", message.getTopic());
        return fields;
    }

    /** Gives the message back and notes the answer. */
    private void back(String name, Map<String, String> fields) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(SEND_MESSAGE_BACK, null);
        request.setExtFields(new HashMap<>(fields));
        RemotingCommand answer = env.producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl()
            .getRemotingClient().invokeSync(env.brokerAddr(), request, 10_000);
        String remark = answer.getRemark() == null ? "" : answer.getRemark().split("\n")[0];
        facts.put(name, answer.getCode() + " " + remark.replace(env.name(""), ""));
    }

    /** Waits for the one message of the group's topic and notes what it looks like. */
    private void arrived(String prefix, String group) throws Exception {
        facts.put(group + " in " + prefix, shape(env.readAll(prefix + env.name(group), 1).get(0)));
    }

    private List<Object> shape(MessageExt back) {
        equal("unique id", message.getMsgId(), back.getMsgId());
        return Arrays.asList(back.getReconsumeTimes(), Env.propertyNames(back), back.getProperty("DELAY"),
            back.getProperty("RETRY_TOPIC") == null ? null : back.getProperty("RETRY_TOPIC").replace(env.name(""), ""),
            back.getProperty("WAIT"), message.getMsgId().equals(back.getProperty("ORIGIN_MESSAGE_ID")));
    }

    private void sendToRetryTopic(String group, int times, String maxTimes) throws Exception {
        Message again = new Message("%RETRY%" + env.name(group), message.getBody());
        MessageAccessor.putProperty(again, "UNIQ_KEY", message.getMsgId());
        MessageAccessor.setReconsumeTime(again, Integer.toString(times));
        if (maxTimes != null) {
            MessageAccessor.setMaxReconsumeTimes(again, maxTimes);
        }
        SendResult result = env.producer.send(again);
        facts.put("sent " + times + " of " + maxTimes, Arrays.asList(result.getSendStatus(), result.getQueueOffset(),
            result.getMessageQueue().getQueueId()));
    }

    private Object routeOf(String topic) throws Exception {
        await("route of " + topic, () -> !env.admin.examineTopicRouteInfo(topic).getQueueDatas().isEmpty());
        var queue = env.admin.examineTopicRouteInfo(topic).getQueueDatas().get(0);
        return Arrays.asList(queue.getReadQueueNums(), queue.getWriteQueueNums(), queue.getPerm());
    }

    /** What waits for this topic in a queue of the schedule topic. */
    private Object inSchedule(int queueId, String realTopic) throws Exception {
        MessageQueue queue = new MessageQueue("SCHEDULE_TOPIC_XXXX", message.getBrokerName(), queueId);
        for (long offset = 0; offset < env.reader.maxOffset(queue);) {
            var pulled = env.reader.pull(queue, "*", offset, 32);
            for (MessageExt waiting : pulled.getMsgFoundList() == null ? List.<MessageExt>of() : pulled.getMsgFoundList()) {
                if (realTopic.equals(waiting.getProperty("REAL_TOPIC"))) {
                    return Arrays.asList(waiting.getProperty("DELAY"), waiting.getProperty("REAL_QID"),
                        waiting.getReconsumeTimes(), Env.propertyNames(waiting));
                }
            }
            offset = Math.max(offset + 1, pulled.getNextBeginOffset());
        }
        return "nothing";
    }
}

package oxmq.interop;

import static oxmq.interop.Env.await;
import static oxmq.interop.Env.equal;

import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Finding messages by key, by either id and by time. */
final class QueryCases {
    private QueryCases() {
    }

    static void query(Env env, Map<String, Object> facts) throws Exception {
        String topic = env.name("query");
        env.createTopic(topic, 1);
        env.send(topic, "early", 5);
        Thread.sleep(5);
        long between = System.currentTimeMillis();
        Thread.sleep(5);
        Message message = Env.message(topic, "tag", "wanted");
        message.setKeys("order-1 order-2");
        SendResult sent = env.producer.send(message);
        long end = System.currentTimeMillis() + 60_000;

        // The index is built after the message has been acknowledged.
        for (String key : new String[] {"order-1", "order-2"}) {
            await("message by " + key, () -> env.reader.queryMessage(topic, key, 10, 0, end)
                .getMessageList().size() == 1);
        }
        QueryResult byKey = env.reader.queryMessage(topic, "key-early-003", 10, 0, end);
        facts.put("by key", byKey.getMessageList().stream().map(Env::body).collect(Collectors.toList()));
        equal("index is known to the broker", true, byKey.getIndexLastUpdateTimestamp() >= between);
        try {
            facts.put("by unknown key", env.reader.queryMessage(topic, "nobody", 10, 0, end).getMessageList().size());
        } catch (MQClientException none) {
            facts.put("by unknown key", none.getResponseCode());
        }

        MessageExt byUniqueId = env.reader.viewMessage(topic, sent.getMsgId());
        MessageExt byOffsetId = env.reader.viewMessage(topic, sent.getOffsetMsgId());
        for (MessageExt found : new MessageExt[] {byUniqueId, byOffsetId}) {
            equal("body", "wanted", Env.body(found));
            equal("queue offset", 5L, found.getQueueOffset());
            equal("unique id", sent.getMsgId(), found.getMsgId());
            facts.put("properties", new TreeSet<>(found.getProperties().keySet()));
        }
        MessageQueue queue = new MessageQueue(topic, "broker-a", 0);
        facts.put("by time", new long[] {env.reader.searchOffset(queue, 0), env.reader.searchOffset(queue, between),
            env.reader.searchOffset(queue, end)});
        equal("first message's time is known", true, env.admin.earliestMsgStoreTime(queue) > 0);
    }
}

package oxmq.docs;

import java.util.List;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Finds messages again. */
public final class Queries {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args.length > 1 ? args[1] : "JavaQueries";
        DefaultMQProducer producer = new DefaultMQProducer(topic + "_writers");
        producer.setNamesrvAddr(namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        SendResult sent = producer.send(new Message(topic, "TagA", "order-17 paid", "seventeen".getBytes()));
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(namesrv);
        admin.start();
        awaitIndex(admin, topic);
        // docs: begin
        long now = System.currentTimeMillis();
        QueryResult byKey = admin.queryMessage(topic, "order-17", 32, now - 60_000, now + 60_000);
        System.out.println("by key: " + new String(byKey.getMessageList().get(0).getBody()));
        for (String id : List.of(sent.getMsgId(), sent.getOffsetMsgId())) {
            MessageExt message = admin.viewMessage(topic, id);
            System.out.println("by id: " + new String(message.getBody()) + ", stored at " + message.getStoreTimestamp());
        }
        long first = admin.searchOffset(sent.getMessageQueue(), now - 60_000);
        System.out.println("first of the last minute in " + sent.getMessageQueue() + ": " + first);
        // docs: end
        admin.shutdown();
        producer.shutdown();
    }

    /** The index follows the messages by a moment. */
    private static void awaitIndex(DefaultMQAdminExt admin, String topic) throws Exception {
        long deadline = System.currentTimeMillis() + 60_000;
        while (true) {
            try {
                if (!admin.queryMessage(topic, "order-17", 32, 0, Long.MAX_VALUE).getMessageList().isEmpty()) {
                    return;
                }
            } catch (MQClientException none) {
                if (System.currentTimeMillis() > deadline) {
                    throw none;
                }
            }
            Thread.sleep(50);
        }
    }
}

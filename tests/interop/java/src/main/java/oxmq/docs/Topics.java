package oxmq.docs;

import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Takes queues away from a topic without losing what is in them. */
public final class Topics {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(namesrv);
        admin.setAdminExtGroup("java_topics");
        admin.start();
        String broker = admin.examineBrokerClusterInfo().getBrokerAddrTable().get("broker-a").selectBrokerAddr();
        admin.createAndUpdateTopicConfig(broker, new TopicConfig("JavaShrinking", 4, 4, 6)); // read, write, permission

        // First nobody writes to two of the queues any more. Consumers still read all four ...
        admin.createAndUpdateTopicConfig(broker, new TopicConfig("JavaShrinking", 4, 2, 6));
        // ... and when `mqadmin consumerProgress` shows no difference, the two are closed.
        admin.createAndUpdateTopicConfig(broker, new TopicConfig("JavaShrinking", 2, 2, 6));
        TopicConfig now = admin.examineTopicConfig(broker, "JavaShrinking");
        System.out.println(now.getReadQueueNums() + " queues to read, " + now.getWriteQueueNums() + " to write");
        // docs: end
        if (now.getReadQueueNums() != 2 || now.getWriteQueueNums() != 2) {
            throw new AssertionError("queues are " + now);
        }
        admin.shutdown();
    }
}

package oxmq.docs.v5;

import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Gives a topic a quota, and sends faster than it allows. */
public final class Quotas {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(namesrv);
        admin.setAdminExtGroup("java_quotas");
        admin.start();
        String broker = admin.examineBrokerClusterInfo().getBrokerAddrTable().get("broker-a").selectBrokerAddr();
        TopicConfig paced = new TopicConfig("JavaPaced", 1, 1, 6);
        paced.setAttributes(Map.of("+quota.messages.per.second", "50"));
        admin.createAndUpdateTopicConfig(broker, paced);

        DefaultMQProducer producer = new DefaultMQProducer("java_paced");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        long started = System.currentTimeMillis();
        for (int number = 0; number < 75; number++) {
            producer.send(new Message("JavaPaced", "tick".getBytes()));
        }
        long millis = System.currentTimeMillis() - started; // 50 at once, the others 20 ms apart
        System.out.println("75 messages took " + millis + " ms");
        // docs: end
        if (millis < 450) {
            throw new AssertionError("75 messages took " + millis + " ms");
        }
        producer.shutdown();
        admin.shutdown();
    }
}

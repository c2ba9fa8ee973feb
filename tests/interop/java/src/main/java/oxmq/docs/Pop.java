package oxmq.docs;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Lets a group consume by POP: the broker hands out messages one by one and waits for their acknowledgements. */
public final class Pop {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(namesrv);
        admin.start();
        CountDownLatch consumed = new CountDownLatch(10);
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_pop_producers");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        for (int i = 0; i < 10; i++) {
            producer.send(new Message("JavaPopTopic", ("message " + i).getBytes()));
        }

        // Once per group, on every broker: mqadmin setConsumeMode does the same.
        for (var broker : admin.examineBrokerClusterInfo().getBrokerAddrTable().values()) {
            admin.setMessageRequestMode(broker.selectBrokerAddr(), "JavaPopTopic", "java_poppers",
                MessageRequestMode.POP, 0, 5000);
        }
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_poppers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setClientRebalance(false); // the broker shares out queues, and says how they are read
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaPopTopic", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                System.out.println(new String(message.getBody()) + ", attempt " + message.getReconsumeTimes());
                consumed.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS; // acknowledges; RECONSUME_LATER: again after 10 s
        });
        consumer.start();
        // docs: end
        if (!consumed.await(60, TimeUnit.SECONDS)) {
            throw new AssertionError("messages are missing");
        }
        consumer.shutdown();
        producer.shutdown();
        admin.shutdown();
    }
}

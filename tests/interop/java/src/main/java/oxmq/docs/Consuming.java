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

/** Consumes with a listener; one message comes a second time. */
public final class Consuming {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args.length > 1 ? args[1] : "JavaConsuming";
        DefaultMQProducer producer = new DefaultMQProducer(topic + "_writers");
        producer.setNamesrvAddr(namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        for (int number = 0; number < 5; number++) {
            producer.send(new Message(topic, ("message " + number).getBytes()));
        }
        CountDownLatch consumed = new CountDownLatch(5);
        // docs: begin
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(topic + "_readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            String text = new String(message.getBody());
            if (text.equals("message 3") && message.getReconsumeTimes() == 0) {
                System.out.println(text + ": not now");
                context.setDelayLevelWhenNextConsume(1); // a second; 0: 10 s, then longer each time
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            System.out.println(text + ", attempt " + message.getReconsumeTimes());
            consumed.countDown();
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        // docs: end
        if (!consumed.await(90, TimeUnit.SECONDS)) {
            throw new AssertionError("not all came");
        }
        consumer.shutdown();
        producer.shutdown();
    }
}

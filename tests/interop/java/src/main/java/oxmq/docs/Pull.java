package oxmq.docs;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Polls messages and says itself how far it is. */
public final class Pull {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args.length > 1 ? args[1] : "JavaPull";
        DefaultMQProducer producer = new DefaultMQProducer(topic + "_writers");
        producer.setNamesrvAddr(namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        for (int number = 0; number < 10; number++) {
            producer.send(new Message(topic, ("message " + number).getBytes()));
        }
        long deadline = System.currentTimeMillis() + 90_000;
        // docs: begin
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(topic + "_readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        consumer.subscribe(topic, "*"); // or assign(queues), to choose them by oneself
        consumer.start();
        int count = 0;
        while (count < 10 && System.currentTimeMillis() < deadline) {
            List<MessageExt> messages = consumer.poll(1000);
            for (MessageExt message : messages) {
                System.out.println(message.getQueueId() + " " + message.getQueueOffset() + ": "
                    + new String(message.getBody()));
            }
            count += messages.size();
            consumer.commitSync(); // what was polled is consumed
        }
        MessageQueue queue = consumer.assignment().iterator().next();
        consumer.seekToBegin(queue); // also to the end, to an offset
        System.out.println("again from " + queue + ": " + consumer.poll(10_000).size());
        consumer.shutdown();
        // docs: end
        if (count < 10) {
            throw new AssertionError("only " + count + " came");
        }
        producer.shutdown();
    }
}

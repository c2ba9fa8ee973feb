package oxmq.docs;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Sends the steps of some orders and consumes them in their order. */
public final class Order {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        String topic = args.length > 1 ? args[1] : "JavaOrders";
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch consumed = new CountDownLatch(9);
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer(topic + "_writers");
        producer.setNamesrvAddr(namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        for (String step : List.of("created", "paid", "shipped")) {
            for (int order = 1; order <= 3; order++) {
                Message message = new Message(topic, ("order " + order + " " + step).getBytes());
                producer.send(message, (queues, of, key) -> queues.get((int) key % queues.size()), order);
            }
        }

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(topic + "_readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setSuspendCurrentQueueTimeMillis(200);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            String text = new String(messages.get(0).getBody());
            if (text.endsWith("paid") && messages.get(0).getReconsumeTimes() == 0) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT; // the message comes again, nothing overtakes it
            }
            System.out.println(text);
            seen.add(text);
            consumed.countDown();
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        // docs: end
        if (!consumed.await(90, TimeUnit.SECONDS)) {
            throw new AssertionError("not all came: " + seen);
        }
        for (int order = 1; order <= 3; order++) {
            String name = "order " + order;
            List<String> steps = seen.stream().filter(text -> text.startsWith(name)).toList();
            if (!steps.equals(List.of(name + " created", name + " paid", name + " shipped"))) {
                throw new AssertionError("out of order: " + seen);
            }
        }
        consumer.shutdown();
        producer.shutdown();
    }
}

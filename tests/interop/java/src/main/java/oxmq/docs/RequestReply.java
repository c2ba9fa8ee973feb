package oxmq.docs;

import java.util.stream.Stream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Asks a question as a message and gets the reply of whoever consumes it. */
public final class RequestReply {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQProducer asker = new DefaultMQProducer("java_askers");
        asker.setNamesrvAddr(namesrv);
        asker.start();
        asker.send(new Message("JavaSums", "0+0".getBytes())); // makes the topic, for the consumer to find at once
        DefaultMQProducer answerer = new DefaultMQProducer("java_answerers");
        answerer.setNamesrvAddr(namesrv);
        answerer.start();

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("java_adders");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("JavaSums", "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt request : messages) {
                long sum = Stream.of(new String(request.getBody()).split("\\+")).mapToLong(Long::parseLong).sum();
                try {
                    answerer.send(MessageUtil.createReplyMessage(request, String.valueOf(sum).getBytes()));
                } catch (Exception e) {
                    System.err.println("nobody waits for this sum: " + e);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();

        Message reply = asker.request(new Message("JavaSums", "17+4".getBytes()), 60_000);
        System.out.println("17+4 = " + new String(reply.getBody()));
        // docs: end
        if (!new String(reply.getBody()).equals("21")) {
            throw new AssertionError("a wrong answer");
        }
        consumer.shutdown();
        answerer.shutdown();
        asker.shutdown();
    }
}

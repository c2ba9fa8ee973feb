package oxmq.docs.v5;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Sends a long body in few bytes. */
public final class Compression {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        DefaultMQProducer producer = new DefaultMQProducer("java_reporters");
        producer.setNamesrvAddr(namesrv);
        producer.setCompressType(CompressionType.ZSTD); // ZLIB at level 5 without it
        producer.setCompressLevel(3);
        producer.setCompressMsgBodyOverHowmuch(1024); // bytes; 4096 without it
        producer.start();
        String report = "all is well\n".repeat(1000);
        SendResult sent = producer.send(new Message("JavaReports", report.getBytes()));

        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("java_report_readers");
        consumer.setNamesrvAddr(namesrv);
        consumer.start();
        PullResult result = consumer.pullBlockIfNotFound(sent.getMessageQueue(), "*", sent.getQueueOffset(), 1);
        MessageExt message = result.getMsgFoundList().get(0);
        System.out.println(message.getBody().length + " bytes, stored in " + message.getStoreSize()); // the body is as it was
        // docs: end
        if (!report.equals(new String(message.getBody())) || message.getStoreSize() > 2000) {
            throw new AssertionError("the body is not as it was, or was not compressed: " + message);
        }
        consumer.shutdown();
        producer.shutdown();
    }
}

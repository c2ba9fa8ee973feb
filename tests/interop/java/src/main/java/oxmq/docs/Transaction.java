package oxmq.docs;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Sends orders that consumers get only if the order behind them was stored. */
public final class Transaction {
    public static void main(String[] args) throws Exception {
        String namesrv = args[0];
        // docs: begin
        Set<String> orders = ConcurrentHashMap.newKeySet(); // kept where the shop keeps them
        TransactionMQProducer shop = new TransactionMQProducer("java_shop");
        shop.setNamesrvAddr(namesrv);
        shop.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object price) {
                if ((Integer) price == 0) {
                    return LocalTransactionState.ROLLBACK_MESSAGE;
                }
                orders.add(message.getKeys());
                return LocalTransactionState.COMMIT_MESSAGE;
            }

            // Asked when the answer above was lost, or came from a producer that is gone.
            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return orders.contains(message.getKeys()) ? LocalTransactionState.COMMIT_MESSAGE
                    : LocalTransactionState.ROLLBACK_MESSAGE;
            }
        });
        shop.start();

        int[] prices = {30, 0, 12};
        for (int i = 0; i < prices.length; i++) {
            String id = "order-" + (i + 1);
            Message order = new Message("JavaOrders", "", id, (id + " for " + prices[i]).getBytes());
            SendResult sent = shop.sendMessageInTransaction(order, prices[i]);
            System.out.println(id + ": transaction " + sent.getTransactionId());
        }
        // docs: end
        List<String> stored = read(namesrv, 2);
        stored.sort(null);
        if (!stored.equals(List.of("order-1 for 30", "order-3 for 12"))) {
            throw new AssertionError("other orders than those that were committed: " + stored);
        }
        shop.shutdown();
    }

    private static List<String> read(String namesrv, int count) throws Exception {
        DefaultMQPullConsumer reader = new DefaultMQPullConsumer("java_order_readers");
        reader.setNamesrvAddr(namesrv);
        reader.start();
        List<String> found = new ArrayList<>();
        for (int attempt = 0; attempt < 1800 && found.size() < count; attempt++) {
            Thread.sleep(50);
            found.clear();
            for (MessageQueue queue : reader.fetchSubscribeMessageQueues("JavaOrders")) {
                PullResult pulled = reader.pull(queue, "*", 0, 32);
                if (pulled.getPullStatus() == PullStatus.FOUND) {
                    pulled.getMsgFoundList().forEach(message -> found.add(new String(message.getBody())));
                }
            }
        }
        reader.shutdown();
        return found;
    }
}

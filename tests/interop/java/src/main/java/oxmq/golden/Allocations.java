package oxmq.golden;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Prints what the client's own strategies give to each member of some groups, for
 * {@code crates/protocol/testdata/allocations.txt}: {@code strategy;brokers;members;member=queues;…}.
 */
public final class Allocations {
    private static final List<Map<String, Integer>> BROKERS = List.of(
        brokers("broker-a", 1),
        brokers("broker-a", 4),
        brokers("broker-a", 8, "broker-b", 8),
        brokers("hz@a", 4, "hz@b", 3, "sh@a", 5, "bj@a", 2),
        brokers("hz@a", 7, "hz@", 2, "plain", 3, "hz@b@", 2, "a@b@c", 2));
    private static final List<List<String>> MEMBERS = List.of(
        List.of("hz-10.0.0.1@1#1"),
        List.of("hz-10.0.0.1@1#1", "sh-10.0.0.2@2#2"),
        List.of("hz-10.0.0.10@1#1", "hz-10.0.0.9@1#1", "sh-10.0.0.2@2#2", "gz-10.0.0.3@3#3", "hz-10.0.0.9@DEFAULT"),
        members(17));

    public static void main(String[] args) {
        AllocateMachineRoomNearby.MachineRoomResolver rooms = new AllocateMachineRoomNearby.MachineRoomResolver() {
            @Override
            public String brokerDeployIn(MessageQueue queue) {
                return queue.getBrokerName().split("@")[0];
            }

            @Override
            public String consumerDeployIn(String clientId) {
                return clientId.split("-")[0];
            }
        };
        AllocateMessageQueueByMachineRoom byRoom = new AllocateMessageQueueByMachineRoom();
        byRoom.setConsumeridcs(Set.of("hz", "bj"));
        List<AllocateMessageQueueStrategy> strategies = List.of(
            new AllocateMessageQueueAveragely(),
            new AllocateMessageQueueAveragelyByCircle(),
            byRoom,
            new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(), rooms),
            new AllocateMachineRoomNearby(new AllocateMessageQueueAveragelyByCircle(), rooms),
            new AllocateMessageQueueConsistentHash(),
            new AllocateMessageQueueConsistentHash(3));
        for (AllocateMessageQueueStrategy strategy : strategies) {
            for (Map<String, Integer> brokers : BROKERS) {
                for (List<String> members : MEMBERS) {
                    print(strategy, strategies.indexOf(strategy), brokers, members);
                }
            }
        }
    }

    private static void print(AllocateMessageQueueStrategy strategy, int number, Map<String, Integer> brokers,
        List<String> members) {
        List<MessageQueue> queues = new ArrayList<>();
        List<String> counts = new ArrayList<>();
        brokers.forEach((broker, count) -> {
            counts.add(broker + "=" + count);
            for (int id = 0; id < count; id++) {
                queues.add(new MessageQueue("orders", broker, id));
            }
        });
        Collections.sort(queues);
        List<String> sorted = new ArrayList<>(members);
        Collections.sort(sorted);
        StringBuilder line = new StringBuilder(number + " " + strategy.getName());
        line.append(';').append(String.join(",", counts)).append(';').append(String.join(",", members));
        for (String member : sorted) {
            List<String> share = new ArrayList<>();
            for (MessageQueue queue : strategy.allocate("group", member, queues, sorted)) {
                share.add(queue.getBrokerName() + ":" + queue.getQueueId());
            }
            line.append(';').append(member).append('=').append(String.join(",", share));
        }
        System.out.println(line);
    }

    private static Map<String, Integer> brokers(Object... namesAndCounts) {
        Map<String, Integer> result = new LinkedHashMap<>();
        for (int i = 0; i < namesAndCounts.length; i += 2) {
            result.put((String) namesAndCounts[i], (Integer) namesAndCounts[i + 1]);
        }
        return result;
    }

    private static List<String> members(int count) {
        List<String> result = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            result.add((i % 3 == 0 ? "hz" : "gz") + "-192.168.0." + i + "@" + 4711 * i + "#9");
        }
        return result;
    }
}

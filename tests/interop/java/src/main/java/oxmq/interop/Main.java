package oxmq.interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/**
 * {@code Main <name server> <label> <case>...}: runs the cases, some side by side, and prints one line
 * {@code RESULT {json}} for each. The facts in it depend on the server only, so that they can be compared.
 * The broker-restart case comes last: it prints {@code WAITING broker-restart}, and goes on when a line arrives.
 */
public final class Main {
    /** Fills in the facts; throws when the server did not behave. */
    interface Case {
        void run(Env env, Map<String, Object> facts) throws Exception;
    }

    private static final Map<String, Case> CASES = new LinkedHashMap<>();

    static {
        CASES.put("send-sync", SendCases::sync);
        CASES.put("send-async", SendCases::async);
        CASES.put("send-oneway", SendCases::oneway);
        CASES.put("send-batch", SendCases::batch);
        CASES.put("message-roundtrip", SendCases::roundTrip);
        CASES.put("send-limits", SendLimitCases::run);
        CASES.put("topic-auto", SendCases::autoCreatedTopic);
        CASES.put("topic-admin", SendCases::adminCreatedTopic);
        CASES.put("consume-concurrent", ConsumeCases::concurrent);
        CASES.put("consume-orderly", ConsumeCases::orderly);
        CASES.put("consume-broadcast", ConsumeCases::broadcast);
        CASES.put("filter-tags", ConsumeCases::filterTags);
        CASES.put("filter-sql", FilterCases::pulls);
        CASES.put("filter-sql-push", FilterCases::push);
        CASES.put("filter-sql-refused", FilterCases::refused);
        CASES.put("docs-filtering", (env, facts) -> oxmq.docs.Filtering.main(new String[] {env.namesrv}));
        CASES.put("consume-from-where", ConsumeCases::fromWhere);
        CASES.put("rebalance", ConsumeCases::rebalance);
        CASES.put("consumer-restart", ConsumeCases::consumerRestart);
        CASES.put("retry", RetryCases::retry);
        CASES.put("dead-letter", RetryCases::deadLetter);
        CASES.put("dead-letter-orderly", RetryCases::deadLetterOrderly);
        CASES.put("pull", PullCases::pull);
        CASES.put("lite-pull", PullCases::litePull);
        CASES.put("query", QueryCases::query);
        CASES.put("retry-corners", RetryCornerCases::run);
        CASES.put("request-reply", RequestCases::requestReply);
        CASES.put("request-reply-rust", RequestCases::withRust);
        CASES.put("docs-consuming", (env, facts) -> oxmq.docs.Consuming.main(env.docs("docs-consuming")));
        CASES.put("docs-order", (env, facts) -> oxmq.docs.Order.main(env.docs("docs-order")));
        CASES.put("docs-pull", (env, facts) -> oxmq.docs.Pull.main(env.docs("docs-pull")));
        CASES.put("docs-queries", (env, facts) -> oxmq.docs.Queries.main(env.docs("docs-queries")));
        CASES.put("docs-request-reply", (env, facts) -> oxmq.docs.RequestReply.main(new String[] {env.namesrv}));
        CASES.put("send-auto-batch", BatchCases::autoBatch);
        CASES.put("inner-batch", BatchCases::innerBatch);
        CASES.put("lmq", BatchCases::lightQueues);
        CASES.put("topic-permissions", TopicCases::permissions);
        CASES.put("queue-counts", TopicCases::queueCounts);
        CASES.put("order-topic", TopicCases::orderTopic);
        CASES.put("topic-attributes", TopicCases::attributes);
        CASES.put("compaction", TopicCases::compaction);
        CASES.put("static-topic", StaticTopicCase::run);
        CASES.put("delay-level", DelayCases::level);
        CASES.put("delay-timer", DelayCases::timer);
        CASES.put("delay-timer-many", DelayCases::timerMany);
        CASES.put("delay-recall", DelayCases::recall);
        CASES.put("docs-delay", (env, facts) -> oxmq.docs.Delay.main(new String[] {env.namesrv}));
        CASES.put("docs-topics", (env, facts) -> oxmq.docs.Topics.main(new String[] {env.namesrv}));
        CASES.put("docs-batches", (env, facts) -> oxmq.docs.Batches.main(new String[] {env.namesrv}));
        CASES.put("metrics", MetricsCase::run);
        CASES.put("transaction", TransactionCases::ends);
        CASES.put("transaction-other-producer", TransactionCases::otherProducer);
        CASES.put("transaction-check-max", TransactionCases::checkMax);
        CASES.put("transaction-wrong-end", TransactionCases::wrongEnds);
        CASES.put("docs-transaction", (env, facts) -> oxmq.docs.Transaction.main(new String[] {env.namesrv}));
        CASES.put("docs-pop", newer("oxmq.docs.Pop"));
        CASES.put("pop-ack", newer("PopCases", "ack"));
        CASES.put("pop-again", newer("PopCases", "again"));
        CASES.put("pop-order", newer("PopCases", "order"));
        CASES.put("pop-poll", newer("PopCases", "poll"));
        CASES.put("pop-filter", newer("PopCases", "filter"));
        CASES.put("pop-wrong", newer("PopCases", "wrong"));
        CASES.put("priority", newer("PopCases", "priority"));
        CASES.put("pop-assignment", newer("PopCases", "assignment"));
        CASES.put("pop-push", newer("PopCases", "push"));
        CASES.put("pop-push-retry", newer("PopCases", "pushRetry"));
        CASES.put("namespaces", NamespaceCases::names);
        CASES.put("namespaces-rust", NamespaceCases::withRust);
        CASES.put("docs-namespaces", (env, facts) -> oxmq.docs.Namespaces.main(new String[] {env.namesrv}));
        CASES.put("trace", TraceCases::trace);
        CASES.put("docs-trace", newer("oxmq.docs.v5.Trace"));
        CASES.put("docs-retries", (env, facts) -> oxmq.docs.Retries.main(new String[] {env.namesrv}));
        CASES.put("compression-rust", CompressionCases::withRust);
        CASES.put("docs-compression", newer("oxmq.docs.v5.Compression"));
        CASES.put("duplicates", DuplicateCases::twice);
        CASES.put("quotas", QuotaCases::paced);
        CASES.put("docs-quotas", newer("oxmq.docs.v5.Quotas"));
        CASES.put("docs-duplicates", (env, facts) -> oxmq.docs.Duplicates.main(new String[] {env.namesrv}));
        CASES.put("inspect", InspectionCases::inspect);
        CASES.put("retention", RetentionCases::retention);
        CASES.put("cold-data", newer("ColdDataCase", "limited"));
        CASES.put("admin-ext", newer("AdminExtCases", "resources"));
        CASES.put("admin-ext-messages", newer("AdminExtCases", "messages"));
        CASES.put("tls", TlsCases::testMode);
        CASES.put("tls-certificates", TlsCases::certificates);
        CASES.put("docs-access-control", (env, facts) -> oxmq.docs.AccessControl.main(env.docs("docs-access-control")));
        CASES.put("acl", AclCases::users);
        CASES.put("acl-files", AclCases::files);
        CASES.put("diagnosis", DiagnosisCase::run);
        CASES.put("docs-tls", (env, facts) -> oxmq.docs.Tls.main(env.docs("docs-tls")));
        CASES.put("broker-restart", RestartCase::run);
    }

    /** A case in a class that is not built with clients before 5.0. */
    private static Case newer(String type, String method) {
        return (env, facts) -> {
            needsJsonHeader(env);
            invoke(Class.forName("oxmq.interop." + type).getDeclaredMethod(method, Env.class, Map.class), env, facts);
        };
    }

    /** A program shown in the documentation, of such a class. */
    private static Case newer(String type) {
        return (env, facts) -> {
            needsJsonHeader(env);
            invoke(Class.forName(type).getMethod("main", String[].class), (Object) new String[] {env.namesrv});
        };
    }

    /** The codes of POP do not fit into the binary header. */
    private static void needsJsonHeader(Env env) throws Env.Skipped {
        env.needsVersion5();
        if ("ROCKETMQ".equals(System.getProperty("rocketmq.serialize.type"))) {
            throw new Env.Skipped();
        }
    }

    private static void invoke(Method method, Object... arguments) throws Exception {
        try {
            method.invoke(null, arguments);
        } catch (InvocationTargetException failure) {
            if (failure.getCause() instanceof Error) {
                throw (Error) failure.getCause();
            }
            throw (Exception) failure.getCause();
        }
    }

    private static final String LAST = "broker-restart";
    /** Cases wait most of the time, but five clients of several threads each share two processors. */
    private static final int CASES_AT_ONCE = 10;

    public static void main(String[] args) {
        try {
            runAll(args);
            System.exit(0);
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void runAll(String[] args) throws Exception {
        Env env = new Env(args[0], args[1]);
        boolean last = false;
        ExecutorService threads = Executors.newFixedThreadPool(CASES_AT_ONCE);
        for (int i = 2; i < args.length; i++) {
            String name = args[i];
            if (name.equals(LAST)) {
                last = true;
            } else {
                threads.execute(() -> runCase(env, name));
            }
        }
        threads.shutdown();
        threads.awaitTermination(10, TimeUnit.MINUTES);
        if (last) {
            runCase(env, LAST);
        }
    }

    /** Tells the suite that the broker may be restarted now, and returns when it has been. */
    static void awaitBrokerRestart() throws Exception {
        System.out.println("WAITING " + LAST);
        if (new BufferedReader(new InputStreamReader(System.in)).readLine() == null) {
            throw new IllegalStateException("the broker was not restarted");
        }
    }

    private static void runCase(Env env, String name) {
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("case", name);
        Case body = CASES.get(name);
        if (body == null) {
            result.put("skipped", true);
        } else {
            try {
                Map<String, Object> facts = new TreeMap<>();
                body.run(env, facts);
                result.put("facts", facts);
            } catch (Env.Skipped reason) {
                result.put("skipped", true);
            } catch (Throwable failure) {
                failure.printStackTrace();
                result.put("error", failure.toString());
            }
        }
        System.out.println("RESULT " + RemotingSerializable.toJson(result, false));
    }
}

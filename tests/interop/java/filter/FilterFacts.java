import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.filter.SqlFilter;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * What the original's filter makes of random expressions: one line of property maps each, then one line per expression,
 * "!" when it does not compile, else for each map T, F, N (null) or A (an exception). Arguments: seed, count.
 */
public class FilterFacts {
    static final String[] VALUES = {
        "5", "-5", "05", "+5", "5.0", "abc", "ab", "b", "true", "TRUE", "false", " 5 ", "1e3", "2147483647", "2147483648",
        "-9223372036854775808", "9223372036854775808", "NaN", "-NaN", "0x1p3", "0x1.8P-2f", "5d", "5L", "5F", "it's", "\u00e4\u00df", "-0", "0",
        "-0.0", "Infinity", "-Infinity", ".5", "5.", "1e400", "1e-400", "a=b", "0.1", "3", "4", "6", "10", "*", "\ud83d\ude00",
    };
    static final String[] NAMES = {"a", "b", "c", "A", "_x", "$y", "TAGS", "a1"};
    static final String[] NUMBERS = {
        "5", "0", "3", "4", "6", "10", "5L", "5l", "1000", "2147483647", "2147483648", "2147483648L", "9223372036854775807",
        "5.5", "5.", ".5", "5E0", "5e-1", "0.5", "00.5", "8.0", "0.375", "1E3",
    };
    static final String[] ILLEGAL_NUMBERS = {"9223372036854775808", "1E400", "1E-400", "0.0", "007"};
    static final String[] TEXTS = {
        "'5'", "'abc'", "'a'", "'b'", "''", "'it''s'", "'true'", "'TRUE'", "'\u00e4\u00df'", "' 5 '", "'-5'", "'0x1p3'", "'NaN'", "'5.0'",
        "'\ud83d\ude00'", "'\n'",
    };
    static final String[] NOISE = {
        "NOT", "AND", "OR", "IS", "NULL", "(", ")", ",", "=", "<>", "<", "-", "+", "--", "-- c\n", "/* c */", "/*", "#", "IN", "BETWEEN",
        "CONTAINS", "'x'", "'a' 'b'", "'ab", "'a''", "a", "5", "!=", "\t", "\f", "\r\n", ";", ".", "\"a\"", "LIKE", "a.b", "a-b", "/***/", "/", "*",
    };
    static Random random;

    public static void main(String[] args) throws Exception {
        random = new Random(Long.parseLong(args[0]));
        int count = Integer.parseInt(args[1]);
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8.name());
        List<Map<String, Object>> maps = new ArrayList<>();
        for (int i = 0; i < 24; i++) {
            Map<String, Object> map = new HashMap<>();
            StringBuilder line = new StringBuilder("#");
            for (String name : NAMES) {
                if (random.nextInt(10) < (i == 0 ? 0 : 6)) {
                    String value = pick(VALUES);
                    map.put(name, value);
                    line.append('\t').append(name).append('=').append(value);
                }
            }
            maps.add(map);
            out.println(line);
        }
        for (int i = 0; i < count; i++) {
            String expression = or(random.nextInt(3));
            if (random.nextInt(6) == 0) {
                expression = disturb(expression);
            }
            out.println(outcomes(expression, maps) + "\t" + escape(expression));
        }
        out.flush();
    }

    static String outcomes(String expression, List<Map<String, Object>> maps) {
        Expression compiled;
        try {
            compiled = new SqlFilter().compile(expression);
        } catch (Throwable refused) {
            return "!";
        }
        StringBuilder outcomes = new StringBuilder();
        for (Map<String, Object> map : maps) {
            try {
                Object outcome = compiled.evaluate(new EvaluationContext() {
                    @Override
                    public Object get(String name) {
                        return map.get(name);
                    }

                    @Override
                    public Map<String, Object> keyValues() {
                        return map;
                    }
                });
                outcomes.append(outcome == null ? "N" : Boolean.TRUE.equals(outcome) ? "T" : "F");
            } catch (Throwable aborted) {
                outcomes.append("A");
            }
        }
        return outcomes.toString();
    }

    static String pick(String... choices) {
        return choices[random.nextInt(choices.length)];
    }

    static String word(String keyword) {
        switch (random.nextInt(8)) {
            case 0:
                return keyword.toLowerCase();
            case 1:
                return keyword.charAt(0) + keyword.substring(1).toLowerCase();
            default:
                return keyword;
        }
    }

    static String or(int depth) {
        StringBuilder text = new StringBuilder(and(depth));
        for (int i = random.nextInt(3); i > 1; i--) {
            text.append(' ').append(word("OR")).append(' ').append(and(depth));
        }
        return text.toString();
    }

    static String and(int depth) {
        StringBuilder text = new StringBuilder(equality(depth));
        for (int i = random.nextInt(3); i > 1; i--) {
            text.append(' ').append(word("AND")).append(' ').append(equality(depth));
        }
        return text.toString();
    }

    static String equality(int depth) {
        StringBuilder text = new StringBuilder(comparison(depth));
        for (int i = random.nextInt(4); i > 1; i--) {
            switch (random.nextInt(6)) {
                case 0:
                    text.append(' ').append(word("IS")).append(' ').append(word("NULL"));
                    break;
                case 1:
                    text.append(' ').append(word("IS")).append(' ').append(word("NOT")).append(' ').append(word("NULL"));
                    break;
                case 2:
                    text.append(" <> ").append(comparison(depth));
                    break;
                default:
                    text.append(pick(" = ", "=")).append(comparison(depth));
            }
        }
        return text.toString();
    }

    static String comparison(int depth) {
        StringBuilder text = new StringBuilder(unary(depth));
        if (random.nextInt(10) < 6) {
            String not = random.nextInt(3) == 0 ? word("NOT") + " " : "";
            switch (random.nextInt(8)) {
                case 0:
                    text.append(' ').append(not).append(word(pick("CONTAINS", "STARTSWITH", "ENDSWITH"))).append(' ').append(operandOr(TEXTS));
                    break;
                case 1:
                    text.append(' ').append(not).append(word("BETWEEN")).append(' ').append(bound(depth)).append(' ').append(word("AND"))
                        .append(' ').append(bound(depth));
                    break;
                case 2:
                    text.append(' ').append(not).append(word("IN")).append(" (").append(operandOr(TEXTS));
                    for (int i = random.nextInt(8); i > 0; i--) {
                        text.append(", ").append(operandOr(TEXTS));
                    }
                    text.append(')');
                    break;
                default:
                    text.append(' ').append(pick("<", "<=", ">", ">=")).append(' ').append(bound(depth));
            }
        }
        return text.toString();
    }

    static String operandOr(String[] usual) {
        return random.nextInt(200) == 0 ? operand() : pick(usual);
    }

    static String bound(int depth) {
        return random.nextInt(3) == 0 ? unary(depth) : number();
    }

    static String unary(int depth) {
        switch (random.nextInt(14)) {
            case 0:
                return pick("-", "- ", "+") + unary(depth);
            case 1:
                return word("NOT") + " " + unary(depth);
            case 2:
            case 3:
            case 4:
                return depth > 0 ? "(" + or(depth - 1) + ")" : operand();
            default:
                return operand();
        }
    }

    static String number() {
        return random.nextInt(20) == 0 ? pick(ILLEGAL_NUMBERS) : pick(NUMBERS);
    }

    static String operand() {
        switch (random.nextInt(14)) {
            case 0:
            case 1:
                return number();
            case 2:
                return pick(TEXTS);
            case 4:
                return word(pick("TRUE", "FALSE", "NULL"));
            default:
                return pick(NAMES);
        }
    }

    static String disturb(String expression) {
        int at = random.nextInt(expression.length() + 1);
        switch (random.nextInt(4)) {
            case 0:
                return expression.substring(0, at);
            case 1:
                return expression + " " + pick(NOISE);
            case 2:
                return expression + " " + pick(NOISE) + " " + pick(NOISE);
            default:
                return expression.substring(0, at) + " " + pick(NOISE) + " " + expression.substring(at);
        }
    }

    static String escape(String text) {
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t").replace("\f", "\\f");
    }
}

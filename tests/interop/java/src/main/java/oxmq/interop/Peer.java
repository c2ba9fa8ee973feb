package oxmq.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A program on the Rust client that takes the other side of a case. It ends when its standard input does. */
final class Peer implements AutoCloseable {
    private final Process process;
    private final BufferedReader output;

    private Peer(Process process) {
        this.process = process;
        output = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
    }

    static Peer start(String... arguments) throws IOException {
        String program = System.getenv("OXMQ_PEER");
        if (program == null) {
            throw new IllegalStateException("OXMQ_PEER does not name the program of the Rust client");
        }
        List<String> command = new ArrayList<>(List.of(program, "peer"));
        command.addAll(Arrays.asList(arguments));
        return new Peer(new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start());
    }

    /** Reads up to the line {@code word value} and returns the value. */
    String await(String word) throws IOException {
        for (String line = output.readLine(); line != null; line = output.readLine()) {
            if (line.startsWith(word)) {
                return line.substring(word.length()).trim();
            }
        }
        throw new IllegalStateException("the Rust client ended without saying " + word);
    }

    @Override
    public void close() throws IOException {
        process.getOutputStream().close();
        try {
            process.waitFor();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

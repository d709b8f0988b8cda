import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The textbook Kafka Streams version of the work: per session and per tool a row for every minute of event time, in
 * RocksDB with changelog topics.
 *
 * Arguments: bootstrap, prefix, topic, events, tool ends, output file, state folder, processing guarantee.
 */
public final class KafkaStreamsPeer {
  private static final double LOG_GAMMA = Math.log(1.01 / 0.99);
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final AtomicLong SESSIONS = new AtomicLong();
  private static final AtomicLong TOOLS = new AtomicLong();
  private static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private static volatile long begunNs;
  private static volatile long begunCpuNs;

  private KafkaStreamsPeer() {}

  public static void main(String[] arguments) throws Exception {
    long events = Long.parseLong(arguments[3]);
    long toolEnds = Long.parseLong(arguments[4]);
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1] + "streams");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[7]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    // The events are older than the broker's clock; without this it deletes what has not been restored yet.
    settings.put(StreamsConfig.WINDOW_STORE_CHANGE_LOG_ADDITIONAL_RETENTION_MS_CONFIG, Long.MAX_VALUE / 4);
    try (KafkaStreams streams = new KafkaStreams(topology(arguments[2]), settings)) {
      streams.start();
      while (SESSIONS.get() < events || TOOLS.get() < toolEnds) {
        Thread.sleep(5);
      }
      double wall = (System.nanoTime() - begunNs) / 1e9;
      double cpu = (SYSTEM.getProcessCpuTime() - begunCpuNs) / 1e9;
      Map<String, Object> told = new LinkedHashMap<>();
      told.put("wall_s", wall);
      told.put("cpu_s", cpu);
      told.put("sessions", rows(streams, "sessions", 4));
      told.put("tools", rows(streams, "tools", 3));
      Path half = Path.of(arguments[5] + ".half");
      Files.write(half, JSON.writeValueAsBytes(told));
      Files.move(half, Path.of(arguments[5]), StandardCopyOption.ATOMIC_MOVE);
      Thread.sleep(60_000); // until it is ended: its memory is looked at
    }
  }

  private static org.apache.kafka.streams.Topology topology(String topic) {
    StreamsBuilder builder = new StreamsBuilder();
    Consumed<String, JsonNode> consumed =
        Consumed.with(Serdes.String(), json())
            .withTimestampExtractor((record, before) -> ((JsonNode) record.value()).get("time").asLong());
    KStream<String, JsonNode> stream = builder.stream(topic, consumed);
    TimeWindows minutes = TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofMinutes(5));
    stream
        .groupByKey(Grouped.with(Serdes.String(), json()))
        .windowedBy(minutes)
        .aggregate(() -> new long[4], (key, event, row) -> addSession(event, row), store("sessions"));
    stream
        .filter((key, event) -> event.get("kind").asText().equals("tool_end"))
        .groupBy((key, event) -> event.get("tool").asText(), Grouped.with("by-tool", Serdes.String(), json()))
        .windowedBy(minutes)
        .aggregate(() -> new long[3], (key, event, row) -> addTool(event, row), store("tools"));
    return builder.build();
  }

  private static Materialized<String, long[], WindowStore<Bytes, byte[]>> store(String name) {
    return Materialized.<String, long[], WindowStore<Bytes, byte[]>>as(name)
        .withKeySerde(Serdes.String())
        .withValueSerde(longs())
        .withRetention(Duration.ofHours(1));
  }

  private static long[] addSession(JsonNode event, long[] before) {
    if (SESSIONS.getAndIncrement() == 0) {
      begunNs = System.nanoTime();
      begunCpuNs = SYSTEM.getProcessCpuTime();
    }
    long[] row = before.clone();
    row[0]++;
    row[1] += event.get("kind").asText().equals("error") ? 1 : 0;
    row[2] += event.path("input_tokens").asLong();
    row[3] += event.path("output_tokens").asLong();
    return row;
  }

  /** Calls, errors, milliseconds, then bin and count of each bin, ascending. */
  private static long[] addTool(JsonNode event, long[] before) {
    TOOLS.incrementAndGet();
    long duration = event.get("duration_ms").asLong();
    long bin = (long) Math.ceil(Math.log(Math.max(duration, 1)) / LOG_GAMMA);
    int low = 0;
    int high = (before.length - 3) / 2;
    while (low < high) {
      int middle = (low + high) >>> 1;
      if (before[3 + 2 * middle] < bin) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    int at = 3 + 2 * low;
    long[] row;
    if (at < before.length && before[at] == bin) {
      row = before.clone();
    } else {
      row = new long[before.length + 2];
      System.arraycopy(before, 0, row, 0, at);
      System.arraycopy(before, at, row, at + 2, before.length - at);
      row[at] = bin;
    }
    row[at + 1]++;
    row[0]++;
    row[1] += event.get("status").asText().equals("success") ? 0 : 1;
    row[2] += duration;
    return row;
  }

  private static Map<String, long[]> rows(KafkaStreams streams, String name, int numbers) {
    Map<String, long[]> found = new LinkedHashMap<>();
    var store = streams.store(StoreQueryParameters.fromNameAndType(name, QueryableStoreTypes.<String, long[]>windowStore()));
    try (var all = store.all()) {
      while (all.hasNext()) {
        var each = all.next();
        long[] row = Arrays.copyOf(each.value, numbers + (numbers == 3 ? 1 : 0));
        if (numbers == 3) {
          row[3] = 0; // how many values the sketch holds
          for (int at = 4; at < each.value.length; at += 2) {
            row[3] += each.value[at];
          }
        }
        found.put(each.key.window().start() + "|" + each.key.key(), row);
      }
    }
    return found;
  }

  private static Serde<JsonNode> json() {
    return Serdes.serdeFrom(
        (topic, value) -> {
          try {
            return value == null ? null : JSON.writeValueAsBytes(value);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        },
        (topic, bytes) -> {
          try {
            return bytes == null ? null : JSON.readTree(bytes);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        });
  }

  private static Serde<long[]> longs() {
    return Serdes.serdeFrom(
        (topic, row) -> {
          if (row == null) {
            return null;
          }
          ByteBuffer bytes = ByteBuffer.allocate(8 * row.length);
          bytes.asLongBuffer().put(row);
          return bytes.array();
        },
        (topic, bytes) -> {
          if (bytes == null) {
            return null;
          }
          long[] row = new long[bytes.length / 8];
          ByteBuffer.wrap(bytes).asLongBuffer().get(row);
          return row;
        });
  }
}

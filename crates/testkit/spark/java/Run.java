// One program on one number of partitions: its inputs, its outputs, and the batches that it runs.
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;
import java.util.stream.*;
import org.apache.spark.HashPartitioner;
import org.apache.spark.Partitioner;
import org.apache.spark.api.java.*;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.Durations;
import org.apache.spark.streaming.api.java.*;
import org.apache.spark.streaming.scheduler.StreamingListener;
import org.apache.spark.streaming.scheduler.StreamingListenerBatchCompleted;
import org.apache.spark.util.ManualClock;
import scala.Tuple2;
import scala.jdk.javaapi.CollectionConverters;
import scala.jdk.javaapi.OptionConverters;
import scala.reflect.ClassTag$;

@SuppressWarnings("deprecation") // Spark calls all of DStreams so.
class Run {
  static final Duration SECOND = seconds(1);
  private static final int PATIENCE_SECONDS = 120;
  /** The run that is on. What runs in a batch must not hold it: a checkpoint would write it down. */
  private static volatile Run current;

  final JavaSparkContext sc;
  final JavaStreamingContext ssc;
  final int partitions;
  private final Path checkpoints;
  private final Recorded recorded = new Recorded();
  private final List<Boolean> inOrder = new ArrayList<>();
  /** For each output, by batch time, what came out. */
  private final List<Map<Long, List<String>>> outputs = new ArrayList<>();
  /** For each batch that has ended, why outputs failed. */
  private final BlockingQueue<List<String>> done = new LinkedBlockingQueue<>();
  private int batches = 0;
  private boolean mustFail = false;
  private Throwable why;

  Run(JavaSparkContext sc, int partitions, Path checkpoints) {
    this.sc = sc;
    this.partitions = partitions;
    this.checkpoints = checkpoints;
    ssc = new JavaStreamingContext(sc, SECOND);
    current = this;
  }

  // ---- what goes in ----

  /** Batches between bars, elements between blanks, `-` for a batch without an RDD: "1 2 | | - | 3". */
  JavaDStream<Integer> numbers(String rows) {
    return input(parse(rows, Integer::valueOf));
  }

  JavaDStream<String> words(String rows) {
    return input(parse(rows, word -> word));
  }

  /** Pairs are written "a=1"; a key may be empty. */
  JavaPairDStream<String, Integer> pairs(String rows) {
    return pairsOf(parse(rows, Run::pair));
  }

  /** Pairs whose values are words. */
  JavaPairDStream<String, String> wordPairs(String rows) {
    return pairsOf(parse(rows, pair -> new Tuple2<>(pair.split("=", -1)[0], pair.split("=", -1)[1])));
  }

  <K, V> JavaPairDStream<K, V> pairsOf(List<List<Tuple2<K, V>>> rows) {
    return JavaPairDStream.fromJavaDStream(input(rows));
  }

  <T> JavaDStream<T> input(List<List<T>> rows) {
    note(rows);
    return JavaDStream.fromDStream(new Rows<>(ssc.ssc(), rows, partitions), ClassTag$.MODULE$.apply(Object.class));
  }

  /** Notes rows as an input: for streams that are made in another way. */
  <T> void note(List<List<T>> rows) {
    recorded.inputs.add(new ArrayList<>(rows));
    batches = Math.max(batches, rows.size());
  }

  static <T> List<List<T>> parse(String rows, Function<String, T> element) {
    List<List<T>> parsed = new ArrayList<>();
    for (String row : rows.split("\\|", -1)) {
      String trimmed = row.trim();
      if (trimmed.equals("-")) parsed.add(null);
      else if (trimmed.isEmpty()) parsed.add(List.of());
      else parsed.add(Arrays.stream(trimmed.split(" +")).map(element).collect(Collectors.toList()));
    }
    return parsed;
  }

  static Tuple2<String, Integer> pair(String pair) {
    String[] sides = pair.split("=", -1);
    return new Tuple2<>(sides[0], Integer.valueOf(sides[1]));
  }

  /** A static RDD of pairs, written as one batch of a stream is. */
  JavaPairRDD<String, Integer> rdd(String row) {
    return sc.parallelizePairs(parse(row, Run::pair).get(0), partitions);
  }

  JavaRDD<Integer> numbersRdd(String row) {
    return sc.parallelize(parse(row, Integer::valueOf).get(0), partitions);
  }

  static Duration seconds(long n) {
    return Durations.seconds(n);
  }

  static Partitioner hash(int n) {
    return new HashPartitioner(n);
  }

  /** A list in order, where Spark does not promise one. */
  static <T extends Comparable<T>> List<T> sorted(Iterable<T> values) {
    return StreamSupport.stream(values.spliterator(), false).sorted().collect(Collectors.toList());
  }

  /** Runs at least so many batches, empty ones behind those that are written. */
  void batches(int n) {
    batches = n;
  }

  /** The program is there to fail. One that fails without saying so is a mistake. */
  void fails() {
    mustFail = true;
  }

  /** Keeps checkpoints, which states and inverse windows need. */
  void checkpoints() {
    ssc.checkpoint(checkpoints.toString());
  }

  // ---- what comes out ----

  /** Records a stream. Spark promises no order of a batch's elements. */
  void output(JavaDStreamLike<?, ?, ?> stream) {
    output(stream, false);
  }

  /** Records a stream whose order Spark promises. */
  void outputInOrder(JavaDStreamLike<?, ?, ?> stream) {
    output(stream, true);
  }

  private void output(JavaDStreamLike<?, ?, ?> stream, boolean ordered) {
    int number = outputs.size();
    outputs.add(new ConcurrentHashMap<>());
    inOrder.add(ordered);
    stream.foreachRDD((rdd, time) -> {
      Stream<String> elements = rdd.collect().stream().map(Json::of);
      List<String> batch = (ordered ? elements : elements.sorted()).collect(Collectors.toList());
      current.outputs.get(number).put(time.milliseconds(), batch);
    });
  }

  /** What an action says of an RDD: some values. */
  interface Action<R, U> extends java.io.Serializable {
    List<U> of(R rdd) throws Exception;
  }

  /** Records what an action says of each batch. It runs when the batch is planned, as all in `transform`. */
  <T, R extends JavaRDDLike<T, R>, U> void action(JavaDStreamLike<T, ?, R> stream, Action<R, U> action) {
    outputInOrder(stream.transform(rdd -> new JavaSparkContext(rdd.context()).parallelize(action.of(rdd), 1)));
  }

  // ---- running it ----

  interface Program {
    void on(Run run) throws Exception;
  }

  Recorded record(Program program) throws Exception {
    ManualClock clock = (ManualClock) ssc.ssc().scheduler().clock();
    int completed = 0;
    try {
      program.on(this);
      // Without an output that has an RDD in each batch, nobody would be told of batches that have none.
      JavaDStream.fromDStream(new Rows<>(ssc.ssc(), List.<List<Integer>>of(), 1), ClassTag$.MODULE$.apply(Object.class))
          .foreachRDD(rdd -> {});
      ssc.addStreamingListener(new StreamingListener() {
        @Override
        public void onBatchCompleted(StreamingListenerBatchCompleted event) {
          done.add(CollectionConverters.asJava(event.batchInfo().outputOperationInfos()).values().stream()
              .flatMap(output -> OptionConverters.toJava(output.failureReason()).stream())
              .collect(Collectors.toList()));
        }
      });
      ssc.start();
    } catch (Exception e) {
      recorded.fails = "start";
      why = e;
    }
    while (recorded.fails == null && completed < batches) {
      clock.advance(SECOND.milliseconds());
      if (completes((completed + 1) * SECOND.milliseconds())) completed++;
      else recorded.fails = "batch";
    }
    ssc.stop(false, false);
    if (mustFail != (recorded.fails != null)) {
      throw new IllegalStateException(mustFail ? "it should fail" : "it fails", why);
    }
    for (int i = 0; i < outputs.size(); i++) {
      List<List<String>> rows = new ArrayList<>();
      for (long batch = 1; batch <= completed; batch++) rows.add(outputs.get(i).get(batch * SECOND.milliseconds()));
      recorded.outputs.add(new Recorded.Output(inOrder.get(i), rows));
    }
    return recorded;
  }

  /** Waits for the end of a batch, and says whether nothing in it failed. */
  private boolean completes(long time) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (System.nanoTime() < deadline) {
      List<String> failures = done.poll(20, TimeUnit.MILLISECONDS);
      try {
        if (failures != null && !failures.isEmpty()) throw new IllegalStateException(failures.get(0));
        if (failures != null) return true;
        // A batch that could not be planned never ends.
        ssc.awaitTerminationOrTimeout(1);
      } catch (Throwable e) {
        why = e;
        return false;
      }
    }
    throw new TimeoutException("the batch at " + time + " does not end");
  }
}

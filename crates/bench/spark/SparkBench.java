// The Spark side of the benchmarks: Apache Spark Streaming (DStreams), local mode, Java API.
//
// usage: SparkBench WORKLOAD TEXT_FILE CORES BATCHES [INTERVAL_MS [MASTER JAR]]
//
// The workload `sql` has readings of sensors instead of a text: TEXT_FILE is how many.
//
// MASTER is local[CORES] unless it is said; executors that are processes of their own need the JAR of this program.
//
// Every batch is the whole text, held in memory as a cached RDD of lines and given by queueStream, so that the engine
// is measured and not a disk or a socket. A batch's time is what Spark calls its processing delay. Prints one line of
// JSON, as millstream-bench does. The text must be ASCII: a String's length is counted in other units elsewhere.
import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.*;
import org.apache.spark.api.java.Optional;
import org.apache.spark.sql.*;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.Duration;
import org.apache.spark.streaming.State;
import org.apache.spark.streaming.StateSpec;
import org.apache.spark.streaming.api.java.*;
import org.apache.spark.streaming.scheduler.*;
import scala.Tuple2;

@SuppressWarnings("deprecation") // Spark calls all of DStreams so.
public class SparkBench {
  static final int WARM_UP = 2;
  static final String GREP = "w77 ";

  static long sink = 0;
  static int taken = 0;
  static int wanted;
  static long hash = 0;
  static boolean hashed = false;

  public static void main(String[] args) throws Exception {
    String workload = args[0], file = args[1];
    int cores = Integer.parseInt(args[2]), batches = Integer.parseInt(args[3]);
    wanted = batches;
    long interval = args.length > 4 ? Long.parseLong(args[4]) : 1000;

    long begin = System.nanoTime();
    String master = args.length > 5 ? args[5] : "local[" + cores + "]";
    SparkConf conf = new SparkConf().setMaster(master).setAppName("bench")
        .set("spark.ui.enabled", "false")
        .set("spark.default.parallelism", "" + cores)
        .set("spark.serializer", "org.apache.spark.serializer.KryoSerializer");
    if (args.length > 6) conf.setJars(new String[] {args[6]});
    JavaStreamingContext ssc = new JavaStreamingContext(conf, new Duration(interval));
    JavaSparkContext sc = ssc.sparkContext();
    String version = sc.version();
    JavaRDD<String> lines = workload.equals("empty") || workload.equals("sql")
        ? sc.parallelize(Arrays.asList("a b c"), cores)
        : sc.textFile(file, cores).coalesce(cores).persist(StorageLevel.MEMORY_ONLY());
    long records = workload.equals("sql") ? Long.parseLong(file) : lines.count();
    Queue<JavaRDD<String>> queue = new LinkedList<>();
    for (int i = 0; i < batches; i++) queue.add(lines);
    JavaDStream<String> input = ssc.queueStream(queue, true);

    switch (workload) {
      case "grep":
        input.filter(line -> line.contains(GREP)).foreachRDD(rdd ->
            take(rdd.count(), () -> hashOf(rdd.mapToPair(line -> new Tuple2<>(line, 1)).collect())));
        break;
      case "wordcount":
      case "empty":
        wordCount(input).foreachRDD(rdd -> take(rdd.count(), () -> hashOf(rdd.collect())));
        break;
      case "topk":
        wordCount(input).foreachRDD(rdd -> {
          List<Tuple2<String, Integer>> top = rdd.top(10, new ByCount());
          take(top.size(), () -> hashOf(top));
        });
        break;
      case "group": // every record crosses the shuffle
        input.mapToPair(line -> new Tuple2<>(firstWord(line), line))
            .groupByKey()
            .mapValues(group -> {
              int sum = 0;
              for (String line : group) sum += line.length();
              return sum;
            })
            .foreachRDD(rdd -> take(rdd.count(), () -> hashOf(rdd.collect())));
        break;
      case "window": // the words of ten batches, made from the window before
        ssc.checkpoint(checkpoints());
        input.flatMap(line -> Arrays.asList(line.split(" ", -1)).iterator())
            .mapToPair(word -> new Tuple2<>(word, 1))
            .reduceByKeyAndWindow(Integer::sum, (a, b) -> a - b, new Duration(interval * 10), new Duration(interval))
            .foreachRDD(rdd -> take(rdd.count(), () -> hashOf(rdd.collect())));
        break;
      case "state": // the words of all batches so far
        ssc.checkpoint(checkpoints());
        wordCount(input)
            .mapWithState(StateSpec.function((String word, Optional<Integer> count, State<Integer> state) -> {
              int sum = count.orElse(0) + (state.exists() ? state.get() : 0);
              state.update(sum);
              return sum;
            }))
            .foreachRDD(rdd -> take(rdd.count(), () -> hashOf(Arrays.asList(new Tuple2<>("sum", rdd.reduce(Integer::sum))))));
        break;
      case "join": { // lines of even length with lines of odd length, by how they begin
        JavaPairDStream<String, Integer> even = input.filter(line -> line.length() % 2 == 0).mapToPair(SparkBench::byBegin);
        JavaPairDStream<String, Integer> odd = input.filter(line -> line.length() % 2 == 1).mapToPair(SparkBench::byBegin);
        even.join(odd)
            .mapValues(both -> both._1() + both._2())
            .reduceByKey(Math::max)
            .foreachRDD(rdd -> take(rdd.count(), () -> hashOf(rdd.collect())));
        break;
      }
      case "sql": { // a statement on each batch, with a static table: examples/bench_sql.rs has the same
        SparkSession spark = SparkSession.builder().config(sc.getConf()).getOrCreate();
        List<Row> vendors = new ArrayList<>(), readings = new ArrayList<>();
        for (long i = 0; i < 100; i++) vendors.add(RowFactory.create(i, "vendor " + i % 9));
        for (long i = 0; i < records; i++) readings.add(RowFactory.create(i * 7 % 120, (double) (i % 90), "hall " + i % 13));
        spark.createDataFrame(vendors, schema("sensor BIGINT, vendor STRING")).cache().createOrReplaceTempView("vendors");
        spark.sql("SELECT count(*) FROM vendors").collectAsList();
        JavaRDD<Row> kept = sc.parallelize(readings, cores).persist(StorageLevel.MEMORY_ONLY());
        kept.count();
        StructType columns = schema("sensor BIGINT, celsius DOUBLE, place STRING");
        input.foreachRDD(rdd -> {
          spark.createDataFrame(kept, columns).createOrReplaceTempView("readings");
          List<Row> found = spark.sql("SELECT v.vendor, count(*) AS n, sum(r.celsius) AS total "
              + "FROM readings r JOIN vendors v ON r.sensor = v.sensor GROUP BY v.vendor").collectAsList();
          take(found.size(), () -> {
            List<Tuple2<String, Integer>> counts = new ArrayList<>();
            for (Row row : found) counts.add(new Tuple2<>(row.getString(0), (int) row.getLong(1)));
            return hashOf(counts);
          });
        });
        break;
      }
      default:
        throw new IllegalArgumentException("there is no workload " + workload);
    }

    Watch watch = new Watch(batches);
    ssc.addStreamingListener(watch);
    ssc.start();
    long startup = (System.nanoTime() - begin) / 1_000_000;
    if (!watch.completed.await(20, TimeUnit.MINUTES)) throw new TimeoutException("the batches take too long");
    ssc.stop(true, false);

    // A window is measured when it is full, and half as long again.
    int from = workload.equals("window") ? batches / 2 : WARM_UP;
    List<Long> times = new ArrayList<>(watch.times.subList(from, batches));
    Collections.sort(times);
    double median = times.get(times.size() / 2);
    System.out.printf(Locale.ROOT,
        "{\"engine\":\"spark\",\"workload\":\"%s\",\"records\":%d,\"ms_median\":%.0f,\"ms_min\":%d,\"ms_max\":%d,"
            + "\"records_per_s\":%.0f,\"sink\":%d,\"result_hash\":\"%016x\",\"ms_startup\":%d,\"version\":\"%s\"}%n",
        workload, records, median, times.get(0), times.get(times.size() - 1), records / Math.max(median, 1) * 1000,
        sink, hash, startup, version);
    System.exit(0);
  }

  static StructType schema(String columns) {
    return StructType.fromDDL(columns);
  }

  static Tuple2<String, Integer> byBegin(String line) {
    return new Tuple2<>(line.substring(0, Math.min(16, line.length())), line.length());
  }

  static String checkpoints() throws java.io.IOException {
    return java.nio.file.Files.createTempDirectory("spark-bench").toString();
  }

  static JavaPairDStream<String, Integer> wordCount(JavaDStream<String> lines) {
    return lines.flatMap(line -> Arrays.asList(line.split(" ", -1)).iterator())
        .mapToPair(word -> new Tuple2<>(word, 1))
        .reduceByKey(Integer::sum);
  }

  static String firstWord(String line) {
    int end = line.indexOf(' ');
    return end < 0 ? line : line.substring(0, end);
  }

  /** The commonest first; of words that are as common, the first by name. */
  static class ByCount implements Comparator<Tuple2<String, Integer>>, Serializable {
    @Override
    public int compare(Tuple2<String, Integer> a, Tuple2<String, Integer> b) {
      int byCount = Integer.compare(a._2, b._2);
      return byCount != 0 ? byCount : b._1.compareTo(a._1);
    }
  }

  /** Takes a batch's size, and hashes its result if it is the first, which is not timed. */
  static void take(long size, Callable<Long> result) throws Exception {
    // A window has batches also when nothing comes any more: those asked for count.
    if (taken++ < wanted) sink += size;
    if (!hashed) {
      hash = result.call();
      hashed = true;
    }
  }

  /** FNV-1a over each key's bytes and its count's eight, lowest first; added up. As in src/report.rs. */
  static long hashOf(List<Tuple2<String, Integer>> entries) {
    long sum = 0;
    for (Tuple2<String, Integer> entry : entries) {
      long one = 0xcbf29ce484222325L;
      for (byte b : entry._1.getBytes(StandardCharsets.UTF_8)) one = (one ^ (b & 0xff)) * 0x100000001b3L;
      long count = entry._2;
      for (int i = 0; i < 8; i++) one = (one ^ ((count >>> (8 * i)) & 0xff)) * 0x100000001b3L;
      sum += one;
    }
    return sum;
  }

  /** Keeps the processing delay of each batch. */
  static class Watch implements StreamingListener {
    final CountDownLatch completed;
    final List<Long> times = Collections.synchronizedList(new ArrayList<>());

    Watch(int batches) {
      completed = new CountDownLatch(batches);
    }

    @Override
    public void onBatchCompleted(StreamingListenerBatchCompleted event) {
      times.add((Long) event.batchInfo().processingDelay().get());
      completed.countDown();
    }
  }
}

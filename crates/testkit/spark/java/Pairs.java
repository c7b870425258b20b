// Operations on the pairs of each batch.
import java.util.*;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class Pairs {
  static final String PAIRS = "a=1 b=2 a=3 | | c=4 | - | b=5 b=6 b=7 a=8 =9";

  /** One key that is nearly all of a batch. */
  static List<List<Tuple2<String, Integer>>> skew() {
    List<Tuple2<String, Integer>> batch = new ArrayList<>();
    for (int i = 0; i < 150; i++) batch.add(new Tuple2<>(i % 50 == 49 ? "rare" + i : "often", i));
    return List.of(batch, List.of(), new ArrayList<>(batch.subList(0, 60)));
  }

  static void mapValues(Run run) {
    run.outputInOrder(run.pairs(PAIRS).mapValues(v -> v * 10));
  }

  static void flatMapValues(Run run) {
    run.outputInOrder(run.pairs("a=2 b=0 c=1 | | - | a=3").flatMapValues(v -> Collections.nCopies(v, v).iterator()));
  }

  static void filterPairs(Run run) {
    run.outputInOrder(run.pairs(PAIRS).filter(pair -> pair._2 > 4));
  }

  static void swap(Run run) {
    run.outputInOrder(run.pairs(PAIRS).mapToPair(Tuple2::swap));
  }

  static void reduceByKey(Run run) {
    run.output(run.pairs(PAIRS).reduceByKey(Integer::sum));
  }

  static void reduceByKeyToMax(Run run) {
    run.output(run.pairs(PAIRS).reduceByKey(Math::max));
  }

  static void reduceByKeyOfSingles(Run run) {
    run.output(run.pairs("a=1 b=2 | c=3 | ").reduceByKey((a, b) -> -1));
  }

  static void reduceByKeyPartitioned(Run run) {
    JavaPairDStream<String, Integer> sums = run.pairs("a=1 b=2 a=3 | | c=4").reduceByKey(Integer::sum, 3);
    run.output(sums);
    run.action(sums, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void reduceByKeyByDefault(Run run) {
    run.action(run.pairs("a=1 b=2 a=3 | | c=4").reduceByKey(Integer::sum), rdd -> List.of(rdd.getNumPartitions()));
  }

  static void reduceByKeyOfSkew(Run run) {
    run.output(run.pairsOf(skew()).reduceByKey(Integer::sum));
  }

  static void reduceByKeyTwice(Run run) {
    run.output(run.pairs(PAIRS).reduceByKey(Integer::sum)
        .mapToPair(pair -> new Tuple2<>(pair._2 % 2, pair._2))
        .reduceByKey(Integer::sum));
  }

  static void reduceByKeyOfNumbers(Run run) {
    run.output(run.numbers("-3 -2 -1 0 1 2 3 | 100000 -100000 | 2147483647 -2147483648")
        .mapToPair(x -> new Tuple2<>(x % 3, 1))
        .reduceByKey(Integer::sum));
  }

  static void reduceByKeyOfPairs(Run run) {
    run.output(run.pairs("a=1 a=1 b=1 a=2 | b=1 b=1")
        .mapToPair(pair -> new Tuple2<>(pair, 1))
        .reduceByKey(Integer::sum));
  }

  static void reduceByKeyOfLists(Run run) {
    run.output(run.pairs("a=1 b=1 c=2 | a=2 b=2")
        .mapToPair(pair -> new Tuple2<>(List.of(pair._2, pair._2), pair._1))
        .reduceByKey((a, b) -> a.compareTo(b) < 0 ? a : b));
  }

  static void groupByKey(Run run) {
    run.output(run.pairs(PAIRS).groupByKey().mapValues(Run::sorted));
  }

  static void groupByKeyPartitioned(Run run) {
    JavaPairDStream<String, Iterable<Integer>> groups = run.pairs("a=1 b=2 a=3 | | c=4").groupByKey(3);
    run.output(groups.mapValues(Run::sorted));
    run.action(groups, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void groupByKeyOfDuplicates(Run run) {
    run.output(run.pairs("a=1 a=1 a=1 b=2 | a=1").groupByKey().mapValues(Run::sorted));
  }

  static void groupByKeyOfSkew(Run run) {
    run.output(run.pairsOf(skew()).groupByKey().mapValues(values -> Run.sorted(values).size()));
  }

  static void combineByKey(Run run) {
    run.output(run.pairs(PAIRS).combineByKey(
        v -> new Tuple2<>(v, 1),
        (sum, v) -> new Tuple2<>(sum._1 + v, sum._2 + 1),
        (a, b) -> new Tuple2<>(a._1 + b._1, a._2 + b._2),
        Run.hash(3)));
  }

  static void combineByKeyToWords(Run run) {
    run.output(run.pairs(PAIRS).combineByKey(
        v -> List.of(v.toString()),
        (list, v) -> concat(list, List.of(v.toString())),
        Pairs::concat,
        Run.hash(2)).mapValues(Run::sorted));
  }

  static List<String> concat(List<String> a, List<String> b) {
    List<String> both = new ArrayList<>(a);
    both.addAll(b);
    return both;
  }

  static void average(Run run) {
    run.output(run.pairs(PAIRS)
        .mapValues(v -> new Tuple2<>(v, 1))
        .reduceByKey((a, b) -> new Tuple2<>(a._1 + b._1, a._2 + b._2))
        .mapValues(sum -> sum._1 / (double) sum._2));
  }

  static void maxOfWords(Run run) {
    run.output(run.wordPairs("a=x b=yy a=zz | b=b | - | a=é a=ß").reduceByKey((a, b) -> a.compareTo(b) > 0 ? a : b));
  }

  static void transformToPairs(Run run) {
    run.output(run.pairs(PAIRS.replace("-", "")).transformToPair(rdd -> rdd.reduceByKey(Integer::sum)));
  }

  static void mapPartitionsToPairs(Run run) {
    run.outputInOrder(run.numbers("1 2 3 | | 4 5").mapPartitionsToPair(part -> {
      List<Tuple2<Integer, Integer>> pairs = new ArrayList<>();
      part.forEachRemaining(x -> pairs.add(new Tuple2<>(x, x * x)));
      return pairs.iterator();
    }));
  }

  static void flatMapToPairs(Run run) {
    run.output(run.words("ann bob | - | eve")
        .flatMapToPair(word -> Arrays.stream(word.split("")).map(letter -> new Tuple2<>(letter, 1)).iterator())
        .reduceByKey(Integer::sum));
  }

  static void countPairs(Run run) {
    run.output(run.pairs("a=1 b=2 a=3 | | c=4").count());
  }

  static void unionOfPairs(Run run) {
    run.output(run.pairs("a=1 b=2 | | c=3").union(run.pairs("a=10 | b=20 | c=30 d=40")).reduceByKey(Integer::sum));
  }

  static void distinctKeys(Run run) {
    run.output(run.pairs(PAIRS).reduceByKey(Integer::sum).map(Tuple2::_1));
  }
}

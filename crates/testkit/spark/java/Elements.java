// Operations on the elements of each batch.
import java.util.*;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.storage.StorageLevel;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class Elements {
  static final String NUMBERS = "3 1 2 | | 5 | - | 4 4 6 7 8 9 10 11 12";

  static void input(Run run) {
    run.outputInOrder(run.numbers(NUMBERS));
  }

  static void inputOfNothing(Run run) {
    run.outputInOrder(run.numbers(" | | "));
  }

  static void inputOfMissing(Run run) {
    run.outputInOrder(run.numbers("- | - | 1"));
  }

  static void map(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).map(x -> x * 10));
  }

  static void mapToPairs(Run run) {
    run.outputInOrder(run.words("ann bob | - | | eve").mapToPair(word -> new Tuple2<>(word, word.length())));
  }

  static void mapToLists(Run run) {
    run.outputInOrder(run.numbers("1 3 | 0").map(x -> Collections.nCopies(x, x)));
  }

  static void filter(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).filter(x -> x % 2 == 0));
  }

  static void filterAll(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).filter(x -> false));
  }

  static void filterNone(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).filter(x -> true));
  }

  static void flatMap(Run run) {
    run.outputInOrder(run.words("to-be or-not-to-be | | - | that is-the").flatMap(
        words -> Arrays.asList(words.split("-")).iterator()));
  }

  static void flatMapToNothing(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).flatMap(x -> Collections.emptyIterator()));
  }

  static void flatMapToMany(Run run) {
    run.outputInOrder(run.numbers("0 1 30 | 2").flatMap(x -> Collections.nCopies(x, x).iterator()));
  }

  static void glom(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).glom());
  }

  static void mapPartitions(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).mapPartitions(part -> {
      int sum = 0;
      while (part.hasNext()) sum += part.next();
      return List.of(sum).iterator();
    }));
  }

  static void mapPartitionsToNothing(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).mapPartitions(part -> Collections.emptyIterator()));
  }

  static void mapPartitionsLazily(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).mapPartitions(part -> part));
  }

  static void repartition(Run run) {
    JavaDStream<Integer> three = run.numbers(NUMBERS.replace("-", "")).repartition(3);
    run.output(three);
    run.action(three, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void repartitionToOne(Run run) {
    JavaDStream<Integer> one = run.numbers("1 2 3 | | 4").repartition(1);
    run.output(one);
    run.action(one, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void repartitionMissing(Run run) {
    run.fails();
    run.output(run.numbers(NUMBERS).repartition(3));
  }

  static void union(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 5 | 6 7").union(run.numbers("3 | 4 | | 8")));
  }

  static void unionWithItself(Run run) {
    JavaDStream<Integer> numbers = run.numbers("1 2 | | 3");
    run.outputInOrder(numbers.union(numbers));
  }

  static void unionOfMissing(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 | 2 | 3").union(run.numbers("4 | 5 | -")));
  }

  static void unionIsWide(Run run) {
    JavaDStream<Integer> numbers = run.numbers("1 2 | | 3");
    run.action(numbers.union(numbers), rdd -> List.of(rdd.getNumPartitions()));
  }

  static void unionOfMany(Run run) {
    run.outputInOrder(run.ssc.union(run.numbers("1 | 2 | "), run.numbers("3 | | 4"), run.numbers("| 5 | 6")));
  }

  static void unionOfOne(Run run) {
    run.outputInOrder(run.ssc.union(run.numbers("1 | 2 | ")));
  }

  static void count(Run run) {
    run.output(run.numbers("3 1 2 | | 5 | 4 4 6 7 8 9 10").count());
  }

  static void countMissing(Run run) {
    run.fails();
    run.output(run.numbers("1 | -").count());
  }

  static void countOfNothing(Run run) {
    run.output(run.numbers(" | | ").count());
  }

  static void countAfterFilter(Run run) {
    run.output(run.numbers("1 2 3 | 1 | 4").filter(x -> x % 2 == 0).count());
  }

  static void countPartitions(Run run) {
    run.action(run.numbers("1 2 3 | | 4").count(), rdd -> List.of(rdd.getNumPartitions()));
  }

  static void reduce(Run run) {
    run.output(run.numbers(NUMBERS).reduce(Integer::sum));
  }

  static void reduceToMax(Run run) {
    run.output(run.numbers(NUMBERS).reduce(Math::max));
  }

  static void reduceOne(Run run) {
    run.output(run.numbers("7 | | 8").reduce((a, b) -> -1));
  }

  static void reducePartitions(Run run) {
    run.action(run.numbers("1 2 3 | | 4").reduce(Integer::sum), rdd -> List.of(rdd.getNumPartitions()));
  }

  static void countByValue(Run run) {
    run.output(run.words("a b a a | | - | b b | c a c").countByValue());
  }

  static void countByValuePartitioned(Run run) {
    JavaPairDStream<String, Long> counts = run.words("a b a a | | b b | c a c").countByValue(3);
    run.output(counts);
    run.action(counts, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void countByValueOfPairs(Run run) {
    run.output(run.pairs("a=1 a=2 a=1 | b=0 b=0").toJavaDStream().countByValue());
  }

  static void transform(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3").transform(rdd -> rdd.map(x -> x + 1).filter(x -> x > 2)));
  }

  static void transformWithTime(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3").transform((rdd, time) -> {
      long now = time.milliseconds();
      return rdd.map(x -> x + now);
    }));
  }

  static void transformToNothing(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3").transform(
        rdd -> new JavaSparkContext(rdd.context()).<Integer>emptyRDD()));
  }

  static void transformToConstant(Run run) {
    JavaRDD<Integer> constant = run.numbersRdd("7 8 9");
    run.outputInOrder(run.numbers("1 2 | | 3").transform(rdd -> constant));
  }

  static void transformMissing(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 | - | 3").transform(rdd -> rdd));
  }

  static void transformTwice(Run run) {
    run.outputInOrder(run.numbers("1 2 | 3").transform(rdd -> rdd.union(rdd)).transform(rdd -> rdd.union(rdd)));
  }

  static void cache(Run run) {
    JavaDStream<Integer> kept = run.numbers(NUMBERS).map(x -> x + 1).cache();
    run.outputInOrder(kept);
    run.outputInOrder(kept.filter(x -> x > 4));
  }

  static void persist(Run run) {
    JavaDStream<Integer> kept = run.numbers(NUMBERS).map(x -> x + 1).persist(StorageLevel.MEMORY_AND_DISK());
    run.output(kept.reduce(Integer::sum));
    run.outputInOrder(kept);
  }

  static void checkpoint(Run run) {
    run.checkpoints();
    JavaDStream<Integer> kept = run.numbers("1 2 | 3 | | 4 | 5");
    JavaDStream<Integer> doubled = kept.map(x -> x * 2);
    doubled.checkpoint(Run.seconds(2));
    run.outputInOrder(doubled.map(x -> x + 1));
  }

  static void twoOutputs(Run run) {
    JavaDStream<Integer> numbers = run.numbers("1 2 3 | - | | 4");
    run.outputInOrder(numbers.filter(x -> x % 2 == 0));
    run.outputInOrder(numbers.filter(x -> x % 2 != 0));
  }

  static void twoInputs(Run run) {
    run.outputInOrder(run.numbers("1 | - | 2").map(x -> x + 1));
    run.outputInOrder(run.words("a | b | - | c").map(word -> word + "!"));
  }

  static void wordCount(Run run) {
    run.output(run.words("to be or | not to be | | - | be be be")
        .mapToPair(word -> new Tuple2<>(word, 1))
        .reduceByKey(Integer::sum));
  }

  static void longChain(Run run) {
    JavaDStream<Integer> numbers = run.numbers("1 2 3 | | 4");
    for (int i = 0; i < 50; i++) numbers = numbers.map(x -> x + 1).filter(x -> x > 0);
    run.outputInOrder(numbers);
  }

  static void aFailingElement(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 2 | 3 | 4 0 5 | 6").map(x -> {
      if (x == 0) throw new IllegalStateException("not zero");
      return 60 / x;
    }));
  }

  static void aFailingTransform(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 2 | 3 | 4").transform((rdd, time) -> {
      if (time.milliseconds() == 2000) throw new IllegalStateException("not now");
      return rdd;
    }));
  }
}

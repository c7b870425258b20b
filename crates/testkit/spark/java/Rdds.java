// What can be asked of the RDD of a batch, inside of `transform`.
import static java.util.List.of;

import java.util.*;
import org.apache.spark.api.java.*;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class Rdds {
  static final String NUMBERS = "3 1 2 3 | | 5 | 9 8 7 6 5 4 3 2 1 0";
  static final String SOME = "3 1 2 3 | 5 | 9 8 7 6 5 4 3 2 1 0";

  static void isEmpty(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.isEmpty()));
  }

  static void isEmptyAfterFilter(Run run) {
    run.action(run.numbers(NUMBERS).filter(x -> x > 5), rdd -> of(rdd.isEmpty()));
  }

  static void count(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.count()));
  }

  static void collect(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> rdd.collect());
  }

  static void take(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> rdd.take(3));
  }

  static void takeNone(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> rdd.take(0));
  }

  static void first(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.first()));
  }

  static void firstOfNothing(Run run) {
    run.fails();
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.first()));
  }

  static void top(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> rdd.top(3));
  }

  static void takeOrdered(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> rdd.takeOrdered(3));
  }

  static void max(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.max(Comparator.naturalOrder())));
  }

  static void min(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.min(Comparator.naturalOrder())));
  }

  static void maxOfNothing(Run run) {
    run.fails();
    run.action(run.numbers(NUMBERS).filter(x -> x > 2), rdd -> of(rdd.max(Comparator.naturalOrder())));
  }

  static void reduce(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.reduce(Integer::sum)));
  }

  static void reduceOfNothing(Run run) {
    run.fails();
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.reduce(Integer::sum)));
  }

  static void fold(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.fold(0, Integer::sum)));
  }

  /** The zero is applied for each partition and once more. */
  static void foldWithAZeroThatIsNone(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.fold(100, Integer::sum)));
  }

  static void aggregate(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.aggregate(
        new Tuple2<>(0, 0),
        (sum, x) -> new Tuple2<>(sum._1 + x, sum._2 + 1),
        (a, b) -> new Tuple2<>(a._1 + b._1, a._2 + b._2))));
  }

  static void countByValue(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> entries(rdd.countByValue()));
  }

  /** A map's entries in the order of its keys. */
  static <K extends Comparable<K>, V> List<Tuple2<K, V>> entries(Map<K, V> map) {
    List<Tuple2<K, V>> entries = new ArrayList<>();
    new TreeMap<>(map).forEach((key, value) -> entries.add(new Tuple2<>(key, value)));
    return entries;
  }

  static void distinct(Run run) {
    run.output(run.numbers(NUMBERS).transform(rdd -> rdd.distinct()));
  }

  static void distinctPartitioned(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.distinct(3).getNumPartitions(), (int) rdd.distinct(3).count()));
  }

  static void sortBy(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.sortBy(x -> x, true, rdd.getNumPartitions())));
  }

  static void sortByDescending(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.sortBy(x -> x, false, rdd.getNumPartitions())));
  }

  static void sortByWithinThree(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.sortBy(x -> -x, true, 3)));
  }

  static void keyBy(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transformToPair(rdd -> rdd.keyBy(x -> x % 3)));
  }

  static void groupBy(Run run) {
    run.output(run.numbers(NUMBERS).transformToPair(rdd -> rdd.groupBy(x -> x % 3).mapValues(Run::sorted)));
  }

  static void glom(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.glom()));
  }

  static void coalesce(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.coalesce(2)));
  }

  static void coalesceIsNarrow(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.coalesce(2).getNumPartitions(), rdd.coalesce(9).getNumPartitions()));
  }

  static void repartition(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> {
      JavaRDD<Integer> two = rdd.repartition(2), nine = rdd.repartition(9);
      return of(two.getNumPartitions(), nine.getNumPartitions(), (int) nine.count());
    });
  }

  static void union(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.union(rdd.map(x -> x * 10))));
  }

  static void mapPartitionsWithIndex(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.mapPartitionsWithIndex((index, part) -> {
      List<Integer> numbers = new ArrayList<>();
      part.forEachRemaining(x -> numbers.add(index * 100 + x));
      return numbers.iterator();
    }, false)));
  }

  static void intersection(Run run) {
    run.output(run.numbers(NUMBERS).transform(rdd -> rdd.intersection(rdd.map(x -> x + 1))));
  }

  static void subtract(Run run) {
    run.output(run.numbers(NUMBERS).transform(rdd -> rdd.subtract(rdd.map(x -> x + 2))));
  }

  static void cartesian(Run run) {
    run.output(run.numbers("1 2 | | 3").transformToPair(rdd -> rdd.cartesian(rdd.filter(x -> x > 1))));
  }

  static void zip(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transformToPair(rdd -> rdd.zip(rdd.map(x -> x * x))));
  }

  static void zipWithIndex(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transformToPair(rdd -> rdd.zipWithIndex()));
  }

  static void zipWithUniqueId(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transformToPair(rdd -> rdd.zipWithUniqueId()));
  }

  static void zipPartitions(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.zipPartitions(rdd.map(x -> x * 2), (a, b) -> {
      int sum = 0;
      while (a.hasNext()) sum += a.next();
      while (b.hasNext()) sum -= b.next();
      return of(sum).iterator();
    })));
  }

  static void treeReduce(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.treeReduce(Integer::sum)));
  }

  static void treeAggregate(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.treeAggregate(0, (sum, x) -> sum + x, Integer::sum)));
  }

  static void treeAggregateWithAZeroThatIsNone(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.treeAggregate(100, (sum, x) -> sum + x, Integer::sum)));
  }

  static void takeSampleOfAll(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> Run.sorted(rdd.takeSample(false, 100, 1)));
  }

  static void sampleOfAll(Run run) {
    run.output(run.numbers(NUMBERS).transform(rdd -> rdd.sample(false, 1.0, 1)));
  }

  static void sampleOfNothing(Run run) {
    run.output(run.numbers(NUMBERS).transform(rdd -> rdd.sample(false, 0.0, 1)));
  }

  static void toLocalIterator(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> {
      List<Integer> numbers = new ArrayList<>();
      rdd.toLocalIterator().forEachRemaining(numbers::add);
      return numbers;
    });
  }

  static void pipe(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> rdd.pipe("cat")));
  }

  static void localCheckpoint(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> {
      JavaRDD<Integer> doubled = rdd.map(x -> x * 2);
      doubled.rdd().localCheckpoint();
      return doubled;
    }));
  }

  static void cache(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> {
      JavaRDD<Integer> kept = rdd.map(x -> x + 1).cache();
      return of(kept.count(), kept.count());
    });
  }

  static void broadcast(Run run) {
    run.outputInOrder(run.numbers(NUMBERS).transform(rdd -> {
      org.apache.spark.broadcast.Broadcast<Integer> ten = new JavaSparkContext(rdd.context()).broadcast(10);
      return rdd.map(x -> x * ten.value());
    }));
  }

  static void accumulator(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> {
      org.apache.spark.util.LongAccumulator sum = rdd.context().longAccumulator();
      rdd.foreach(x -> sum.add(x));
      return of(sum.value());
    });
  }

  static void emptyRdd(Run run) {
    run.action(run.numbers("1 | "), rdd -> {
      JavaRDD<Integer> empty = new JavaSparkContext(rdd.context()).emptyRDD();
      return of(empty.getNumPartitions(), (int) empty.count(), empty.isEmpty() ? 1 : 0);
    });
  }

  static void parallelize(Run run) {
    run.outputInOrder(run.numbers("1 | ").transform(rdd ->
        new JavaSparkContext(rdd.context()).parallelize(of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 4).glom()));
  }

  // ---- numbers ----

  static void sum(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> of(rdd.mapToDouble(x -> x).sum()));
  }

  static void mean(Run run) {
    run.action(run.numbers(SOME), rdd -> of(rdd.mapToDouble(x -> x).mean()));
  }

  static void stats(Run run) {
    run.action(run.numbers("1 2 3 4 | 5 5"), rdd -> {
      org.apache.spark.util.StatCounter stats = rdd.mapToDouble(x -> x).stats();
      return of(of(stats.count(), stats.sum(), stats.mean(), stats.min(), stats.max(), stats.variance()));
    });
  }

  static void histogram(Run run) {
    run.action(run.numbers("1 2 3 4 4 | 5 7 9 0"), rdd -> {
      Tuple2<double[], long[]> histogram = rdd.mapToDouble(x -> x).histogram(3);
      List<Double> edges = new ArrayList<>();
      List<Long> counts = new ArrayList<>();
      for (double edge : histogram._1) edges.add(edge);
      for (long count : histogram._2) counts.add(count);
      return of(new Tuple2<>(edges, counts));
    });
  }

  static void histogramOfEdges(Run run) {
    run.action(run.numbers(NUMBERS), rdd -> {
      List<Long> counts = new ArrayList<>();
      for (long count : rdd.mapToDouble(x -> x).histogram(new double[] {0, 2, 3, 8})) counts.add(count);
      return counts;
    });
  }
}

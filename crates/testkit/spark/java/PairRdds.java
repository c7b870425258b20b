// What can be asked of the pairs of a batch, inside of `transform`.
import static java.util.List.of;

import java.util.*;
import org.apache.spark.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class PairRdds {
  static final String PAIRS = "b=2 a=1 a=3 | | c=4 | e=5 d=6 c=7 b=8 a=9 a=9";

  static void keys(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transform(rdd -> rdd.keys()));
  }

  static void values(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transform(rdd -> rdd.values()));
  }

  static void mapValues(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transformToPair(rdd -> rdd.mapValues(v -> v + 1)));
  }

  static void flatMapValues(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transformToPair(rdd -> rdd.flatMapValues(v -> of(v, -v).iterator())));
  }

  static void countByKey(Run run) {
    run.action(run.pairs(PAIRS), rdd -> Rdds.entries(rdd.countByKey()));
  }

  static void collectAsMap(Run run) {
    // The pairs of a Java stream have lost their class, without which `collectAsMap` fails; the RDD's own map knows it.
    run.action(run.pairs(PAIRS), rdd -> Rdds.entries(rdd.mapToPair(pair -> pair).collectAsMap()));
  }

  static void lookup(Run run) {
    run.action(run.pairs(PAIRS), rdd -> rdd.lookup("a"));
  }

  static void lookupAfterReduce(Run run) {
    run.action(run.pairs(PAIRS).reduceByKey(Integer::sum), rdd -> rdd.lookup("a"));
  }

  static void sortByKey(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transformToPair(rdd -> rdd.reduceByKey(Integer::sum).sortByKey()));
  }

  static void sortByKeyDescending(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transformToPair(rdd -> rdd.reduceByKey(Integer::sum).sortByKey(false)));
  }

  static void sortByKeyOfDuplicates(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transform(rdd -> rdd.sortByKey().keys()));
  }

  static void sortedWordCount(Run run) {
    run.action(run.words("to be or not to be be | | a b a"), rdd -> rdd
        .mapToPair(word -> new Tuple2<>(word, 1)).reduceByKey(Integer::sum)
        .mapToPair(Tuple2::swap).sortByKey(false).keys().take(2));
  }

  static void partitionBy(Run run) {
    run.action(run.pairs(PAIRS), rdd -> of(rdd.partitionBy(Run.hash(5)).getNumPartitions()));
  }

  static void reduceByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.reduceByKey(Integer::sum)));
  }

  static void groupByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.groupByKey().mapValues(Run::sorted)));
  }

  static void combineByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.combineByKey(
        v -> new Tuple2<>(v, 1),
        (sum, v) -> new Tuple2<>(sum._1 + v, sum._2 + 1),
        (a, b) -> new Tuple2<>(a._1 + b._1, a._2 + b._2))));
  }

  static void defaultPartitions(Run run) {
    run.action(run.pairs(PAIRS), rdd -> of(
        rdd.reduceByKey(Integer::sum).getNumPartitions(),
        rdd.reduceByKey(Integer::sum, 3).getNumPartitions(),
        rdd.reduceByKey(Integer::sum, 3).groupByKey().getNumPartitions(),
        rdd.reduceByKey(Integer::sum, 3).join(rdd).getNumPartitions()));
  }

  static void reduceByKeyLocally(Run run) {
    run.action(run.pairs(PAIRS), rdd -> Rdds.entries(rdd.reduceByKeyLocally(Integer::sum)));
  }

  static void aggregateByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.aggregateByKey(0, (sum, v) -> sum + v * 10, Integer::sum)));
  }

  static void foldByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.foldByKey(0, Integer::sum)));
  }

  static void join(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.join(rdd.mapValues(v -> v * 10))));
  }

  static void leftOuterJoin(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.leftOuterJoin(rdd.filter(pair -> pair._2 > 3))));
  }

  static void rightOuterJoin(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.filter(pair -> pair._2 > 3).rightOuterJoin(rdd)));
  }

  static void fullOuterJoin(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd ->
        rdd.filter(pair -> pair._2 > 3).fullOuterJoin(rdd.filter(pair -> pair._2 < 8))));
  }

  static void cogroup(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.cogroup(rdd.filter(pair -> pair._2 > 3))
        .mapValues(both -> new Tuple2<>(Run.sorted(both._1), Run.sorted(both._2)))));
  }

  static void subtractByKey(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.subtractByKey(rdd.filter(pair -> pair._2 > 7))));
  }

  static void filterByRange(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.filterByRange("b", "d")));
  }

  static void repartitionAndSortWithinPartitions(Run run) {
    run.outputInOrder(run.pairs(PAIRS).transform(rdd -> rdd.repartitionAndSortWithinPartitions(Run.hash(1)).keys()));
  }

  static void distinct(Run run) {
    run.output(run.pairs(PAIRS).transformToPair(rdd -> rdd.distinct()));
  }
}

// Operations on two streams or more, and on a stream with a static RDD.
import java.util.*;
import org.apache.spark.api.java.*;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class Joins {
  static final String LEFT = "a=1 b=1 | a=1 =1 | =1 | ";
  static final String RIGHT = "a=10 b=10 | b=10 =10 | | =10";
  static final String MANY_LEFT = "a=1 a=2 b=3 | a=4 c=5 | | a=6";
  static final String MANY_RIGHT = "a=10 a=20 c=30 | a=40 | b=50 | a=60 a=60";

  static void join(Run run) {
    run.output(run.pairs(LEFT).join(run.pairs(RIGHT)));
  }

  static void leftOuterJoin(Run run) {
    run.output(run.pairs(LEFT).leftOuterJoin(run.pairs(RIGHT)));
  }

  static void rightOuterJoin(Run run) {
    run.output(run.pairs(LEFT).rightOuterJoin(run.pairs(RIGHT)));
  }

  static void fullOuterJoin(Run run) {
    run.output(run.pairs(LEFT).fullOuterJoin(run.pairs(RIGHT)));
  }

  static void joinOfDuplicates(Run run) {
    run.output(run.pairs(MANY_LEFT).join(run.pairs(MANY_RIGHT)));
  }

  static void leftOuterJoinOfDuplicates(Run run) {
    run.output(run.pairs(MANY_LEFT).leftOuterJoin(run.pairs(MANY_RIGHT)));
  }

  static void rightOuterJoinOfDuplicates(Run run) {
    run.output(run.pairs(MANY_LEFT).rightOuterJoin(run.pairs(MANY_RIGHT)));
  }

  static void fullOuterJoinOfDuplicates(Run run) {
    run.output(run.pairs(MANY_LEFT).fullOuterJoin(run.pairs(MANY_RIGHT)));
  }

  static void joinPartitioned(Run run) {
    JavaPairDStream<String, Tuple2<Integer, Integer>> joined = run.pairs(LEFT).join(run.pairs(RIGHT), 3);
    run.output(joined);
    run.action(joined, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void joinMissing(Run run) {
    run.fails();
    run.output(run.pairs("a=1 | a=2 | a=3").join(run.pairs("a=1 | - | a=3")));
  }

  static void joinWithItself(Run run) {
    JavaPairDStream<String, Integer> pairs = run.pairs(MANY_LEFT);
    run.output(pairs.join(pairs));
  }

  static void joinOfSums(Run run) {
    run.output(run.pairs(MANY_LEFT).reduceByKey(Integer::sum).join(run.pairs(MANY_RIGHT).reduceByKey(Integer::sum)));
  }

  static void joinOfWords(Run run) {
    run.output(run.wordPairs("a=x b=y | c=z").join(run.pairs("a=1 b=2 b=3 | a=4 c=5")));
  }

  static void joinOfSkew(Run run) {
    run.output(run.pairsOf(Pairs.skew()).join(run.pairs("often=1 rare49=2 | often=3 | rare99=4 rare49=5")).count());
  }

  static void joinIsShort(Run run) {
    run.output(run.pairs("a=1 | a=2 | a=3 | a=4").join(run.pairs("a=10 | a=20")));
  }

  static void cogroup(Run run) {
    run.output(run.pairs(MANY_LEFT).cogroup(run.pairs(MANY_RIGHT))
        .mapValues(both -> new Tuple2<>(Run.sorted(both._1), Run.sorted(both._2))));
  }

  static void cogroupPartitioned(Run run) {
    JavaPairDStream<String, Tuple2<Iterable<Integer>, Iterable<Integer>>> both =
        run.pairs(LEFT).cogroup(run.pairs(RIGHT), 3);
    run.output(both.mapValues(lists -> new Tuple2<>(Run.sorted(lists._1), Run.sorted(lists._2))));
    run.action(both, rdd -> List.of(rdd.getNumPartitions()));
  }

  static void cogroupWithNothing(Run run) {
    run.output(run.pairs("a=1 a=2 | b=3 | ").cogroup(run.pairs(" | | "))
        .mapValues(both -> new Tuple2<>(Run.sorted(both._1), Run.sorted(both._2))));
  }

  static void cogroupMissing(Run run) {
    run.fails();
    run.output(run.pairs("a=1 | -").cogroup(run.pairs("a=1 | a=2")).mapValues(both -> Run.sorted(both._1)));
  }

  static void transformWith(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3").transformWith(run.numbers("4 | 5 | 6 7"), (a, b, time) -> b.union(a)));
  }

  static void transformWithTime(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3").transformWith(run.words("a | b | c d"), (a, b, time) -> {
      long now = time.milliseconds();
      return a.map(x -> x + "@" + now).union(b);
    }));
  }

  static void transformWithMissing(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 | 2").transformWith(run.numbers("3 | -"), (a, b, time) -> a.union(b)));
  }

  static void transformWithToPairs(Run run) {
    run.output(run.numbers("1 2 | 3").transformWithToPair(run.numbers("1 | 3 4"),
        (a, b, time) -> a.mapToPair(x -> new Tuple2<>(x, "left")).union(b.mapToPair(x -> new Tuple2<>(x, "right")))));
  }

  static void subtract(Run run) {
    run.output(run.numbers("1 2 2 3 | 4 5 | | 6").transformWith(run.numbers("2 | | 7 | 6"),
        (a, b, time) -> a.subtract(b)));
  }

  static void intersection(Run run) {
    run.output(run.numbers("1 2 2 3 | 4 5 | | 6 6").transformWith(run.numbers("2 2 3 | | 7 | 6"),
        (a, b, time) -> a.intersection(b)));
  }

  static void subtractByKey(Run run) {
    run.output(run.pairs(MANY_LEFT).transformWithToPair(run.pairs(MANY_RIGHT), (a, b, time) -> a.subtractByKey(b)));
  }

  static void cartesian(Run run) {
    run.output(run.numbers("1 2 | | 3").transformWithToPair(run.numbers("10 20 | 30 | 40"),
        (a, b, time) -> a.cartesian(b)));
  }

  static void zip(Run run) {
    run.outputInOrder(run.numbers("1 2 3 | | 4").transformWithToPair(run.words("a b c | | d"),
        (a, b, time) -> a.zip(b)));
  }

  static void zipOfDifferentLengths(Run run) {
    run.fails();
    run.outputInOrder(run.numbers("1 2 3 | 4 5").transformWithToPair(run.words("a b c | d"),
        (a, b, time) -> a.zip(b)));
  }

  static void staticJoin(Run run) {
    JavaPairRDD<String, Integer> table = run.rdd("a=100 a=200 b=300");
    run.output(run.pairs(MANY_LEFT).transformToPair(rdd -> rdd.join(table)));
  }

  static void staticLeftOuterJoin(Run run) {
    JavaPairRDD<String, Integer> table = run.rdd("a=100 a=200 b=300");
    run.output(run.pairs(MANY_LEFT).transformToPair(rdd -> rdd.leftOuterJoin(table)));
  }

  static void staticRightOuterJoin(Run run) {
    JavaPairRDD<String, Integer> table = run.rdd("a=100 b=300");
    run.output(run.pairs(MANY_LEFT).transformToPair(rdd -> rdd.rightOuterJoin(table)));
  }

  static void staticFilter(Run run) {
    JavaPairRDD<String, Integer> spam = run.rdd("a=1");
    run.output(run.pairs(MANY_LEFT).transformToPair(rdd -> rdd.subtractByKey(spam)));
  }

  static void staticUnion(Run run) {
    JavaPairRDD<String, Integer> table = run.rdd("z=100");
    run.outputInOrder(run.pairs(MANY_LEFT).transformToPair(rdd -> rdd.union(table)));
  }

  static void transformOfThree(Run run) {
    JavaDStream<Integer> a = run.numbers("1 | 2 | "), b = run.numbers("3 | | 4"), c = run.numbers("| 5 | 6");
    run.outputInOrder(run.ssc.transform(List.of(a, b, c), (rdds, time) -> {
      JavaRDD<Integer> all = new JavaSparkContext(rdds.get(0).context()).emptyRDD();
      for (JavaRDD<?> rdd : rdds) all = numbers(rdd).union(all);
      return all;
    }));
  }

  @SuppressWarnings("unchecked")
  static JavaRDD<Integer> numbers(JavaRDD<?> rdd) {
    return (JavaRDD<Integer>) rdd;
  }

  static void transformOfThreeWithTime(Run run) {
    JavaDStream<Integer> a = run.numbers("1 | 2 | "), b = run.numbers("3 | | 4"), c = run.numbers("| 5 | 6");
    run.outputInOrder(run.ssc.transform(List.of(a, b, c), (rdds, time) ->
        numbers(rdds.get((int) (time.milliseconds() / 1000) - 1))));
  }

  static void joinOfThree(Run run) {
    run.output(run.pairs("a=1 b=2 | a=3").join(run.pairs("a=10 b=20 | b=30")).join(run.pairs("b=200 | a=300")));
  }

  static void joinOfWindows(Run run) {
    run.output(run.pairs("a=1 | b=2 | | c=3").window(Run.seconds(2))
        .join(run.pairs("b=10 | a=20 | b=30 | ").window(Run.seconds(3))));
  }

  static void joinWithWindow(Run run) {
    run.output(run.pairs("a=1 | a=2 b=3 | b=4 | ").join(run.pairs("a=10 b=20 | | | a=30").window(Run.seconds(2))));
  }

  static void joinOfDifferentSlides(Run run) {
    run.fails();
    run.output(run.pairs("a=1 | a=2").join(run.pairs("a=1 | a=2").window(Run.seconds(2), Run.seconds(2))));
  }

  static void unionOfDifferentSlides(Run run) {
    run.fails();
    run.output(run.numbers("1 | 2").union(run.numbers("1 | 2").window(Run.seconds(2), Run.seconds(2))));
  }

  static void diamond(Run run) {
    JavaPairDStream<String, Integer> pairs = run.pairs(MANY_LEFT);
    run.output(pairs.reduceByKey(Integer::sum).join(pairs.reduceByKey(Math::max)).union(
        pairs.groupByKey().mapValues(values -> new Tuple2<>(Run.sorted(values).size(), 0))));
  }
}

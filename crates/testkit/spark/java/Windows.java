// Windows that are computed anew each time.
import static java.util.List.of;

import java.util.*;
import org.apache.spark.streaming.api.java.*;
import scala.Tuple2;

@SuppressWarnings("deprecation")
class Windows {
  static final String SIX = "0 | 1 | 2 | 3 | 4 | 5";
  static final String PAIRS = "a=1 b=2 | a=3 | | - | c=4 a=5 c=6 | b=7 |  | ";

  static JavaDStream<Integer> window(JavaDStream<Integer> stream, int length, int slide) {
    return stream.window(Run.seconds(length), Run.seconds(slide));
  }

  static void windowOfTwo(Run run) {
    run.outputInOrder(window(run.numbers(SIX), 2, 1));
  }

  static void windowThatTumbles(Run run) {
    run.outputInOrder(window(run.numbers(SIX), 2, 2));
  }

  static void windowOfFourByTwo(Run run) {
    run.batches(8);
    run.outputInOrder(window(run.numbers(SIX), 4, 2));
  }

  static void windowWithGaps(Run run) {
    run.batches(9);
    run.outputInOrder(window(run.numbers(SIX), 2, 3));
  }

  static void windowOfOneByThree(Run run) {
    run.batches(9);
    run.outputInOrder(window(run.numbers(SIX), 1, 3));
  }

  static void windowThatSlidesByItself(Run run) {
    run.batches(8);
    run.outputInOrder(run.numbers(SIX).window(Run.seconds(3)));
  }

  static void windowOfOne(Run run) {
    run.outputInOrder(run.numbers(SIX).window(Run.seconds(1)));
  }

  static void windowLongerThanTheInput(Run run) {
    run.batches(8);
    run.outputInOrder(window(run.numbers("0 | 1 2 | 3"), 20, 1));
  }

  static void windowOfNothing(Run run) {
    run.outputInOrder(window(run.numbers(" | | "), 2, 1));
  }

  static void windowOfMissing(Run run) {
    run.outputInOrder(window(run.numbers("- | - | - | 1 | - | 2 | - | - | -"), 2, 1));
  }

  static void windowOfMissingByTwo(Run run) {
    run.outputInOrder(window(run.numbers("1 | - | - | - | 2 | 3"), 2, 2));
  }

  static void windowOfWindow(Run run) {
    run.batches(8);
    run.outputInOrder(window(window(run.numbers(SIX), 2, 1), 4, 2));
  }

  static void windowOfTumblingWindow(Run run) {
    run.batches(10);
    run.outputInOrder(window(window(run.numbers(SIX), 2, 2), 4, 2));
  }

  static void windowOfWindowWithGaps(Run run) {
    run.batches(14);
    run.outputInOrder(window(window(run.numbers("0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9"), 1, 2), 4, 4));
  }

  static void windowOfMap(Run run) {
    run.outputInOrder(window(run.numbers(SIX).map(x -> x * 10), 3, 1));
  }

  static void mapOfWindow(Run run) {
    run.outputInOrder(window(run.numbers(SIX), 3, 3).map(x -> x * 10));
  }

  static void windowOfPairs(Run run) {
    run.outputInOrder(run.pairs(PAIRS).window(Run.seconds(2), Run.seconds(2)));
  }

  static void windowOfSums(Run run) {
    run.output(run.pairs(PAIRS).reduceByKey(Integer::sum).window(Run.seconds(3), Run.seconds(1)));
  }

  static void windowPartitions(Run run) {
    run.action(window(run.numbers("0 | 1 | - | 3 | "), 3, 1), rdd -> of(rdd.getNumPartitions()));
  }

  static void windowPartitionsOfSums(Run run) {
    run.action(run.pairs("a=1 | a=2 | b=3 | ").reduceByKey(Integer::sum).window(Run.seconds(3)),
        rdd -> of(rdd.getNumPartitions()));
  }

  static void transformOfWindow(Run run) {
    run.outputInOrder(window(run.numbers(SIX), 2, 2).transform((rdd, time) -> {
      long now = time.milliseconds();
      return rdd.map(x -> x + now);
    }));
  }

  static void distinctInWindow(Run run) {
    run.output(window(run.numbers("1 1 2 | 2 3 | | 1 3"), 2, 1).transform(rdd -> rdd.distinct()));
  }

  static void countInWindow(Run run) {
    run.output(window(run.numbers("1 2 | | 3 | | | 4"), 2, 1).count());
  }

  static void reduceInWindow(Run run) {
    run.output(window(run.numbers("1 2 | | 3 | | | 4"), 2, 1).reduce(Integer::sum));
  }

  static void twoWindowsOfOneStream(Run run) {
    JavaDStream<Integer> numbers = run.numbers(SIX).map(x -> x + 1);
    run.outputInOrder(window(numbers, 2, 1));
    run.outputInOrder(window(numbers, 3, 3));
    run.outputInOrder(numbers);
  }

  static void unionOfWindows(Run run) {
    JavaDStream<Integer> numbers = run.numbers(SIX);
    run.outputInOrder(window(numbers, 2, 2).union(window(numbers, 4, 2)));
  }

  static void windowOfUnion(Run run) {
    run.outputInOrder(window(run.numbers("0 | 1 | 2 | 3").union(run.numbers("10 | 11 | | 13")), 2, 1));
  }

  static void windowOfCount(Run run) {
    run.outputInOrder(run.numbers("1 2 | | 3 4 5 | ").count().window(Run.seconds(2)));
  }

  static void reduceByWindow(Run run) {
    run.output(run.numbers("1 2 | 3 | | - | 4 | | | ").reduceByWindow(Integer::sum, Run.seconds(2), Run.seconds(1)));
  }

  static void reduceByWindowByTwo(Run run) {
    run.batches(10);
    run.output(run.numbers("1 2 | 3 | | - | 4 | 5").reduceByWindow(Integer::sum, Run.seconds(4), Run.seconds(2)));
  }

  static void reduceByWindowToMax(Run run) {
    run.output(run.numbers("5 2 | 3 | 4 1 | 1 | 4 |  | | ").reduceByWindow(Math::max, Run.seconds(3), Run.seconds(1)));
  }

  static void reduceByWindowWithGaps(Run run) {
    run.batches(9);
    run.output(run.numbers(SIX).reduceByWindow(Integer::sum, Run.seconds(2), Run.seconds(3)));
  }

  static void reduceByKeyAndWindow(Run run) {
    run.output(run.pairs(PAIRS).reduceByKeyAndWindow(Integer::sum, Run.seconds(2)));
  }

  static void reduceByKeyAndWindowOfKeysThatLeave(Run run) {
    run.batches(6);
    run.output(run.pairs("a=1 | a=1 | | ").reduceByKeyAndWindow(Integer::sum, Run.seconds(2), Run.seconds(1)));
  }

  static void reduceByKeyAndWindowByTwo(Run run) {
    run.batches(10);
    run.output(run.pairs(PAIRS).reduceByKeyAndWindow(Integer::sum, Run.seconds(4), Run.seconds(2)));
  }

  static void reduceByKeyAndWindowWithGaps(Run run) {
    run.batches(9);
    run.output(run.pairs(PAIRS).reduceByKeyAndWindow(Integer::sum, Run.seconds(1), Run.seconds(3)));
  }

  static void reduceByKeyAndWindowPartitioned(Run run) {
    JavaPairDStream<String, Integer> sums =
        run.pairs(PAIRS).reduceByKeyAndWindow(Integer::sum, Run.seconds(3), Run.seconds(1), 3);
    run.output(sums);
    run.action(sums, rdd -> of(rdd.getNumPartitions()));
  }

  static void reduceByKeyAndWindowOfSkew(Run run) {
    run.output(run.pairsOf(Pairs.skew()).reduceByKeyAndWindow(Math::max, Run.seconds(2), Run.seconds(1)));
  }

  static void reduceByKeyAndWindowOfNothing(Run run) {
    run.output(run.pairs(" | | ").reduceByKeyAndWindow(Integer::sum, Run.seconds(2)));
  }

  static void groupByKeyAndWindow(Run run) {
    run.output(run.pairs(PAIRS).groupByKeyAndWindow(Run.seconds(3)).mapValues(Run::sorted));
  }

  static void groupByKeyAndWindowByTwo(Run run) {
    run.batches(10);
    run.output(run.pairs(PAIRS).groupByKeyAndWindow(Run.seconds(4), Run.seconds(2)).mapValues(Run::sorted));
  }

  static void groupByKeyAndWindowWithGaps(Run run) {
    run.batches(9);
    run.output(run.pairs(PAIRS).groupByKeyAndWindow(Run.seconds(2), Run.seconds(3)).mapValues(Run::sorted));
  }

  static void groupByKeyAndWindowPartitioned(Run run) {
    JavaPairDStream<String, Iterable<Integer>> groups =
        run.pairs(PAIRS).groupByKeyAndWindow(Run.seconds(2), Run.seconds(1), 3);
    run.output(groups.mapValues(Run::sorted));
    run.action(groups, rdd -> of(rdd.getNumPartitions()));
  }

  static void groupByKeyAndWindowInOrderOfTime(Run run) {
    run.output(run.pairs("a=9 b=1 | a=8 | a=7 b=0 | | a=5")
        .groupByKeyAndWindow(Run.seconds(3), Run.seconds(1))
        .mapValues(values -> {
          List<Integer> list = new ArrayList<>();
          values.forEach(list::add);
          return list;
        }));
  }

  static void topInWindow(Run run) {
    run.action(run.words("a b a | b c b | | c c c c").mapToPair(word -> new Tuple2<>(word, 1))
        .reduceByKeyAndWindow(Integer::sum, Run.seconds(2), Run.seconds(1))
        .mapToPair(Tuple2::swap), rdd -> rdd.sortByKey(false).take(2));
  }

  static void longWindowOfManyBatches(Run run) {
    run.batches(30);
    run.output(run.numbers(SIX + " | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15 | 16 | 17")
        .reduceByWindow(Integer::sum, Run.seconds(10), Run.seconds(5)));
  }

  static void windowThatDoesNotFit(Run run) {
    run.fails();
    run.outputInOrder(run.numbers(SIX).window(org.apache.spark.streaming.Durations.milliseconds(1500)));
  }

  static void slideThatDoesNotFit(Run run) {
    run.fails();
    run.outputInOrder(run.numbers(SIX).window(Run.seconds(2), org.apache.spark.streaming.Durations.milliseconds(1500)));
  }

  static void windowThatDoesNotFitItsParent(Run run) {
    run.fails();
    run.outputInOrder(window(window(run.numbers(SIX), 2, 2), 3, 2));
  }
}

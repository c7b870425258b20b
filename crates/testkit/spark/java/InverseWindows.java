// Windows that are computed from the one before: what came is added, what left is taken away.
import static java.util.List.of;

import java.util.*;
import org.apache.spark.streaming.api.java.*;

@SuppressWarnings("deprecation")
class InverseWindows {
  static final String BIG = "a=1 | a=1 b=1 | a=1 b=1 c=1 | a=1 b=1 | a=1 | "
      + "| a=1 | a=1 b=1 | a=1 b=1 c=1 | a=1 b=1 | a=1 | ";
  static final String PAIRS = "a=1 b=2 | a=3 | | - | c=4 a=5 c=6 | b=7 | | | ";

  /** Sums over a window, by addition and subtraction. */
  static JavaPairDStream<String, Integer> sums(JavaPairDStream<String, Integer> pairs, int length, int slide) {
    return pairs.reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(length), Run.seconds(slide));
  }

  /** The same, without sums of zero. */
  static JavaPairDStream<String, Integer> sumsButZero(JavaPairDStream<String, Integer> pairs, int length, int slide) {
    return pairs.reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(length), Run.seconds(slide), 2, pair -> pair._2 != 0);
  }

  static void big(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs(BIG), 2, 1));
  }

  static void bigFiltered(Run run) {
    run.checkpoints();
    run.output(sumsButZero(run.pairs(BIG), 2, 1));
  }

  static void keysStay(Run run) {
    run.checkpoints();
    run.batches(6);
    run.output(sums(run.pairs("a=1 | a=1 | | "), 2, 1));
  }

  static void keysLeaveByFilter(Run run) {
    run.checkpoints();
    run.batches(6);
    run.output(sumsButZero(run.pairs("a=1 | a=1 | | "), 2, 1));
  }

  static void keysLeaveAndReturn(Run run) {
    run.checkpoints();
    run.batches(9);
    run.output(sumsButZero(run.pairs("a=1 b=1 | | | a=2 | | | | b=3"), 2, 1));
  }

  static void keysStayAndReturn(Run run) {
    run.checkpoints();
    run.batches(9);
    run.output(sums(run.pairs("a=1 b=1 | | | a=2 | | | | b=3"), 2, 1));
  }

  static void largerSlide(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(sums(run.pairs("a=1 | a=2 | a=3 | a=4 | a=5 | a=6 | | "), 4, 2));
  }

  static void tumbling(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(sums(run.pairs(PAIRS), 2, 2));
  }

  static void tumblingFiltered(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(sumsButZero(run.pairs(PAIRS), 2, 2));
  }

  static void withGaps(Run run) {
    run.checkpoints();
    run.batches(12);
    run.output(sums(run.pairs("a=1 | a=2 b=2 | a=3 | a=4 b=4 | a=5 | a=6"), 2, 3));
  }

  static void withGapsFiltered(Run run) {
    run.checkpoints();
    run.batches(12);
    run.output(sumsButZero(run.pairs("a=1 | a=2 b=2 | a=3 | a=4 b=4 | a=5 | a=6"), 2, 3));
  }

  static void ofOneBatch(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs(PAIRS), 1, 1));
  }

  static void ofMissing(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs("- | - | a=1 | - | a=2 b=1 | - | - | - | -"), 2, 1));
  }

  static void ofNothing(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs(" | | | "), 2, 1));
  }

  static void ofEmptyBatches(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs(" | | a=1 | | | | b=1 | | "), 3, 1));
  }

  static void ofDuplicates(Run run) {
    run.checkpoints();
    run.output(sums(run.pairs("a=1 a=1 a=1 | a=1 b=1 b=1 | a=2 a=-2 | | "), 2, 1));
  }

  static void ofSkew(Run run) {
    run.checkpoints();
    run.batches(6);
    run.output(sums(run.pairsOf(Pairs.skew()), 2, 1));
  }

  static void ofCancellingValues(Run run) {
    run.fails();
    run.checkpoints();
    run.output(sumsButZero(run.pairs("a=1 | a=-1 | | a=2 a=-2 | | a=3"), 3, 1));
  }

  static void longerThanTheInput(Run run) {
    run.checkpoints();
    run.batches(8);
    run.output(sums(run.pairs("a=1 | b=2 | a=3"), 20, 1));
  }

  static void pastTheCheckpoint(Run run) {
    run.checkpoints();
    run.batches(24);
    run.output(sums(run.pairs(BIG + " | " + BIG), 3, 1));
  }

  static void partitioned(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> sums = run.pairs(PAIRS).reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), Run.seconds(1), 3, pair -> true);
    run.output(sums);
    run.action(sums, rdd -> of(rdd.getNumPartitions()));
  }

  static void byDefault(Run run) {
    run.checkpoints();
    run.action(sums(run.pairs(PAIRS), 2, 1), rdd -> of(rdd.getNumPartitions()));
  }

  static void filterOfSmallValues(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=5 b=5 | a=1 b=5 | b=5 | a=9 b=1 | ").reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), Run.seconds(1), 2, pair -> pair._2 > 2));
  }

  static void filterByKey(Run run) {
    run.checkpoints();
    run.batches(2);
    run.output(run.pairs("a=1 b=1 | a=2 b=2").reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(3), Run.seconds(1), 2, pair -> !pair._1.equals("b")));
  }

  static void filterThatDropsTooEarly(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs("a=1 | | | | a=2").reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), Run.seconds(1), 2, pair -> pair._2 > 1));
  }

  static void ofSets(Run run) {
    run.checkpoints();
    // Sets as bits: each value comes once in a window.
    run.output(run.pairs("a=1 b=1 | a=2 | a=4 b=2 | | a=8 | | ").reduceByKeyAndWindow(
        (a, b) -> a | b, (a, b) -> a & ~b, Run.seconds(3), Run.seconds(1)));
  }

  static void ofWindow(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(sums(run.pairs(PAIRS).window(Run.seconds(2)), 2, 1));
  }

  static void ofTumblingWindow(Run run) {
    run.checkpoints();
    run.batches(12);
    run.output(sums(run.pairs(PAIRS).window(Run.seconds(2), Run.seconds(2)), 4, 2));
  }

  static void windowOfIt(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(sums(run.pairs(PAIRS), 2, 1).window(Run.seconds(2), Run.seconds(2)));
  }

  static void besideThePlainOne(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> pairs = run.pairs(BIG);
    run.output(sumsButZero(pairs, 3, 1));
    run.output(pairs.reduceByKeyAndWindow(Integer::sum, Run.seconds(3), Run.seconds(1)));
  }

  static void joinedWithItsInput(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> pairs = run.pairs("a=1 b=2 | a=3 | | c=4 a=5");
    run.output(pairs.join(sums(pairs, 2, 1)));
  }

  static void checkpointedOften(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> sums = sums(run.pairs(BIG), 2, 1);
    sums.checkpoint(Run.seconds(2));
    run.output(sums);
  }

  static void slideThatDoesNotFit(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs(PAIRS).reduceByKeyAndWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), org.apache.spark.streaming.Durations.milliseconds(1500)));
  }

  static void reduceByWindow(Run run) {
    run.checkpoints();
    run.batches(8);
    run.output(run.numbers(" | 1 2 | | 3 | - | 4").reduceByWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), Run.seconds(1)));
  }

  static void reduceByWindowByTwo(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(run.numbers("1 | 2 | 3 | 4 | 5 | 6").reduceByWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(4), Run.seconds(2)));
  }

  static void reduceByWindowIsOnePartition(Run run) {
    run.checkpoints();
    run.action(run.numbers("1 | 2 | 3").reduceByWindow(
        Integer::sum, (a, b) -> a - b, Run.seconds(2), Run.seconds(1)), rdd -> of(rdd.getNumPartitions()));
  }

  static void countByWindow(Run run) {
    run.checkpoints();
    run.output(run.numbers("1 | 1 | 1 2 | 0 | | ").countByWindow(Run.seconds(2), Run.seconds(1)));
  }

  static void countByWindowBeforeTheFirst(Run run) {
    run.checkpoints();
    run.output(run.numbers(" | | 1 2 | | | | 3").countByWindow(Run.seconds(2), Run.seconds(1)));
  }

  static void countByWindowByTwo(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(run.numbers("1 | 1 | 1 2 | 0 | | ").countByWindow(Run.seconds(4), Run.seconds(2)));
  }

  static void countByWindowOfMissing(Run run) {
    run.checkpoints();
    run.output(run.numbers("- | 1 | - | - | 2 3 | -").countByWindow(Run.seconds(2), Run.seconds(1)));
  }

  static void countByWindowOfNothing(Run run) {
    run.checkpoints();
    run.output(run.numbers(" | | ").countByWindow(Run.seconds(2), Run.seconds(1)));
  }

  static void countByValueAndWindow(Run run) {
    run.checkpoints();
    run.batches(6);
    run.output(run.words("a | b b | a b").countByValueAndWindow(Run.seconds(2), Run.seconds(1)));
  }

  static void countByValueAndWindowByTwo(Run run) {
    run.checkpoints();
    run.batches(10);
    run.output(run.words("a | b b | a b | - | c | c").countByValueAndWindow(Run.seconds(4), Run.seconds(2)));
  }

  static void countByValueAndWindowPartitioned(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Long> counts =
        run.words("a | b b | a b | | ").countByValueAndWindow(Run.seconds(2), Run.seconds(1), 3);
    run.output(counts);
    run.action(counts, rdd -> of(rdd.getNumPartitions()));
  }
}

// Streams that read a queue of RDDs, and constant ones.
import java.util.*;
import java.util.stream.Collectors;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.streaming.api.java.JavaDStream;

@SuppressWarnings("deprecation")
class Queues {
  /** A queue of RDDs, one for each batch that is written. */
  static Queue<JavaRDD<Integer>> queue(Run run, String rows) {
    List<List<Integer>> parsed = Run.parse(rows, Integer::valueOf);
    run.note(parsed);
    return parsed.stream()
        .map(row -> run.sc.parallelize(row, run.partitions))
        .collect(Collectors.toCollection(LinkedList::new));
  }

  static void oneAtATime(Run run) {
    run.batches(6);
    run.outputInOrder(run.ssc.queueStream(queue(run, "1 2 | | 3 4 5"), true));
  }

  static void allAtOnce(Run run) {
    run.outputInOrder(run.ssc.queueStream(queue(run, "1 2 | | 3 4 5"), false));
  }

  static void whenEmptyADefault(Run run) {
    run.batches(5);
    run.outputInOrder(run.ssc.queueStream(queue(run, "1 2 | 3"), true, run.numbersRdd("7 8")));
  }

  static void allAtOnceWithADefault(Run run) {
    run.batches(3);
    run.outputInOrder(run.ssc.queueStream(queue(run, "1 2 | 3"), false, run.numbersRdd("7 8")));
  }

  static void whenEmptyIsAnRdd(Run run) {
    run.batches(4);
    run.action(run.ssc.queueStream(queue(run, "1 2"), true), rdd -> List.of(rdd.count()));
  }

  static void countsWhenEmpty(Run run) {
    run.batches(4);
    run.output(run.ssc.queueStream(queue(run, "1 2"), true).count());
  }

  static void windowOfAQueue(Run run) {
    run.batches(5);
    run.outputInOrder(run.ssc.queueStream(queue(run, "1 2 | 3 | 4"), true).window(Run.seconds(2)));
  }

  static void twoQueues(Run run) {
    JavaDStream<Integer> one = run.ssc.queueStream(queue(run, "1 | 2"), true);
    JavaDStream<Integer> other = run.ssc.queueStream(queue(run, "3 | | 4 5"), true);
    run.outputInOrder(one.union(other));
  }
}

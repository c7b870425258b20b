// State by key that is updated in each batch for each key.
import static java.util.List.of;

import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import org.apache.spark.HashPartitioner;
import org.apache.spark.api.java.Optional;
import org.apache.spark.rdd.RDD;
import org.apache.spark.streaming.Time;
import org.apache.spark.streaming.api.java.*;
import org.apache.spark.streaming.dstream.DStream;
import org.apache.spark.streaming.dstream.PairDStreamFunctions;
import scala.Function1;
import scala.Function4;
import scala.Option;
import scala.Tuple2;
import scala.Tuple3;
import scala.collection.Iterator;
import scala.collection.immutable.Seq;
import scala.jdk.javaapi.CollectionConverters;
import scala.reflect.ClassTag;
import scala.reflect.ClassTag$;

@SuppressWarnings("deprecation")
class UpdateState {
  static final String LETTERS = "a=1 | a=1 b=1 | a=1 b=1 c=1 | a=1 b=1 | a=1 | ";

  static Optional<Integer> add(List<Integer> values, Optional<Integer> state) {
    int sum = state.orElse(0);
    for (int value : values) sum += value;
    return Optional.of(sum);
  }

  /** Counts how often it was called for a key, and with how many values. */
  static Optional<List<Integer>> calls(List<Integer> values, Optional<List<Integer>> state) {
    List<Integer> before = state.orElse(of(0, 0));
    return Optional.of(of(before.get(0) + 1, before.get(1) + values.size()));
  }

  /** Forgets a key that had no values for two batches. State is the sum and how many batches were without. */
  static Optional<Tuple2<Integer, Integer>> forgetful(List<Integer> values, Optional<Tuple2<Integer, Integer>> state) {
    int sum = state.isPresent() ? state.get()._1 : 0;
    int without = values.isEmpty() ? state.get()._2 + 1 : 0;
    for (int value : values) sum += value;
    return without == 2 ? Optional.empty() : Optional.of(new Tuple2<>(sum, without));
  }

  static void sums(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).updateStateByKey(UpdateState::add));
  }

  static void sumsOfDuplicates(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=1 a=2 a=3 b=1 | a=4 a=5 | | b=1 b=1").updateStateByKey(UpdateState::add));
  }

  static void sumsOfSkew(Run run) {
    run.checkpoints();
    run.output(run.pairsOf(Pairs.skew()).updateStateByKey(UpdateState::add));
  }

  static void everyKeyIsCalled(Run run) {
    run.checkpoints();
    run.batches(8);
    run.output(run.pairs("a=1 | b=2 b=3 | | a=4 | - | c=5").updateStateByKey(UpdateState::calls));
  }

  static void ofMissing(Run run) {
    run.checkpoints();
    run.output(run.pairs("- | a=1 | - | - | b=1 | -").updateStateByKey(UpdateState::calls));
  }

  static void ofNothing(Run run) {
    run.checkpoints();
    run.output(run.pairs(" | | ").updateStateByKey(UpdateState::add));
  }

  static void ofOnlyMissing(Run run) {
    run.checkpoints();
    run.output(run.pairs("- | - | -").updateStateByKey(UpdateState::add));
  }

  static void keysThatLeave(Run run) {
    run.checkpoints();
    run.batches(9);
    run.output(run.pairs("a=1 b=1 | a=2 | | c=1 | a=3 | a=4 | ").updateStateByKey(UpdateState::forgetful));
  }

  static void keysThatLeaveWhileMissing(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=1 b=1 | a=1 b=1 | - | a=1 c=1 | - | - | - | a=1").updateStateByKey(UpdateState::forgetful));
  }

  static void allToNone(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=1 b=2 | a=1 | | b=1").<Integer>updateStateByKey((values, state) -> Optional.empty()));
  }

  static void zeroToNone(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=1 b=2 | a=-1 | a=5 b=-2 | | b=0 c=0 | c=1").<Integer>updateStateByKey((values, state) -> {
      Optional<Integer> sum = UpdateState.add(values, state);
      return sum.get() == 0 ? Optional.empty() : sum;
    }));
  }

  static void stateOfAnotherType(Run run) {
    run.checkpoints();
    run.output(run.pairs("b=2 b=1 | a=3 | b=0 a=1").<String>updateStateByKey((values, state) ->
        Optional.of(state.orElse("") + Run.sorted(values))));
  }

  static void withInitialState(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).updateStateByKey(UpdateState::add, Run.hash(2), run.rdd("a=1 c=2")));
  }

  static void withInitialStateAndNothing(Run run) {
    run.checkpoints();
    run.output(run.pairs(" | - | ").updateStateByKey(UpdateState::add, Run.hash(2), run.rdd("a=1 c=2")));
  }

  static void withInitialStateOfDuplicates(Run run) {
    run.checkpoints();
    run.output(run.pairs("b=1 | b=1 | ").updateStateByKey(UpdateState::add, Run.hash(2), run.rdd("a=7 a=7 b=5")));
  }

  static void withInitialStateBeforeMissing(Run run) {
    run.checkpoints();
    run.output(run.pairs("- | a=1 | b=1").updateStateByKey(UpdateState::add, Run.hash(2), run.rdd("a=1 c=2")));
  }

  static void withInitialStateThatLeaves(Run run) {
    run.checkpoints();
    run.output(run.pairs("a=1 | b=1 | | a=1").<Integer>updateStateByKey(
        (values, state) -> values.isEmpty() ? Optional.empty() : UpdateState.add(values, state),
        Run.hash(2), run.rdd("a=1 c=2")));
  }

  static void partitioned(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> state = run.pairs(LETTERS).updateStateByKey(UpdateState::add, 3);
    run.output(state);
    run.action(state, rdd -> of(rdd.getNumPartitions()));
  }

  static void partitionedByDefault(Run run) {
    run.checkpoints();
    run.action(run.pairs(LETTERS).updateStateByKey(UpdateState::add), rdd -> of(rdd.getNumPartitions()));
  }

  static void pastTheCheckpoint(Run run) {
    run.checkpoints();
    run.batches(24);
    run.output(run.pairs(LETTERS + "|" + LETTERS + "|" + LETTERS).updateStateByKey(UpdateState::add));
  }

  static void checkpointedOften(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> state = run.pairs(LETTERS + "|" + LETTERS).updateStateByKey(UpdateState::add);
    state.checkpoint(Run.seconds(2));
    run.output(state);
  }

  static void windowOfState(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).updateStateByKey(UpdateState::add).window(Run.seconds(2)));
  }

  static void stateOfWindow(Run run) {
    run.checkpoints();
    run.batches(8);
    run.output(run.pairs(LETTERS).window(Run.seconds(2), Run.seconds(2)).updateStateByKey(UpdateState::add));
  }

  static void stateOfState(Run run) {
    run.checkpoints();
    run.output(run.pairs(LETTERS).updateStateByKey(UpdateState::add).updateStateByKey(UpdateState::add));
  }

  static void twoStatesOfOneStream(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> pairs = run.pairs(LETTERS);
    run.output(pairs.updateStateByKey(UpdateState::add));
    run.output(pairs.updateStateByKey(UpdateState::calls));
  }

  static void joinedWithItsInput(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> pairs = run.pairs(LETTERS);
    run.output(pairs.join(pairs.updateStateByKey(UpdateState::add)));
  }

  static void filteredState(Run run) {
    run.checkpoints();
    JavaPairDStream<String, Integer> sums = run.pairs(LETTERS).updateStateByKey(UpdateState::add);
    run.output(sums.filter(pair -> pair._2 > 1).mapValues(v -> v * 10));
  }

  static void aFailingUpdate(Run run) {
    run.fails();
    run.checkpoints();
    run.output(run.pairs("a=1 | a=2 | b=0 | a=1").<Integer>updateStateByKey((values, state) -> {
      if (values.contains(0)) throw new IllegalStateException("not zero");
      return UpdateState.add(values, state);
    }));
  }

  // ---- forms that only Scala's interface has ----

  /** What the form with the batch's time takes and gives. */
  interface Timed<S> extends Function4<Time, String, Seq<Integer>, Option<S>, Option<S>>, Serializable {}

  /** What the form over all keys of a partition takes and gives. */
  interface Iterated extends
      Function1<Iterator<Tuple3<String, Seq<Integer>, Option<Integer>>>, Iterator<Tuple2<String, Integer>>>,
      Serializable {}

  static <T> ClassTag<T> tag() {
    return ClassTag$.MODULE$.apply(Object.class);
  }

  static void withTime(Run run) {
    run.checkpoints();
    run.batches(8);
    PairDStreamFunctions<String, Integer> pairs = functions(run.pairs(LETTERS));
    Timed<Long> sumOfTimes = (time, key, values, state) ->
        Option.apply((state.isDefined() ? state.get() : 0L) + (values.isEmpty() ? 0 : time.milliseconds()));
    run.output(stream(pairs.updateStateByKey(sumOfTimes, new HashPartitioner(2), true, Option.empty(), tag())));
  }

  static void withTimeAndKey(Run run) {
    run.checkpoints();
    PairDStreamFunctions<String, Integer> pairs = functions(run.pairs(LETTERS));
    Timed<String> notes = (time, key, values, state) -> key.equals("b") && time.milliseconds() == 4000 ? Option.empty()
        : Option.apply((state.isDefined() ? state.get() : key) + values.size());
    run.output(stream(pairs.updateStateByKey(notes, new HashPartitioner(2), true, Option.empty(), tag())));
  }

  static void withTimeAndInitialState(Run run) {
    run.checkpoints();
    PairDStreamFunctions<String, Integer> pairs = functions(run.pairs("a=1 | - | b=1 | "));
    Timed<Long> lastTime =
        (time, key, values, state) -> Option.apply(time.milliseconds() + (state.isDefined() ? 1L : 0L));
    RDD<Tuple2<String, Long>> initial = run.rdd("c=1").mapValues(v -> (long) v).rdd();
    run.output(stream(pairs.updateStateByKey(lastTime, new HashPartitioner(2), true, Option.apply(initial), tag())));
  }

  static void iterated(Run run) {
    run.checkpoints();
    Iterated f = UpdateState::sumsWithoutThree;
    run.output(stream(functions(run.pairs(LETTERS)).updateStateByKey(f, new HashPartitioner(2), true, tag())));
  }

  static void iteratedWithoutPartitioner(Run run) {
    run.checkpoints();
    Iterated f = UpdateState::sumsWithoutThree;
    run.output(stream(functions(run.pairs(LETTERS)).updateStateByKey(f, new HashPartitioner(2), false, tag())));
  }

  static void iteratedWithInitialState(Run run) {
    run.checkpoints();
    Iterated f = UpdateState::sumsWithoutThree;
    RDD<Tuple2<String, Integer>> initial = run.rdd("a=1 z=3").rdd();
    run.output(stream(functions(run.pairs(LETTERS)).updateStateByKey(f, new HashPartitioner(2), true, initial, tag())));
  }

  /** Adds up, and lets go of a key at three. */
  private static Iterator<Tuple2<String, Integer>> sumsWithoutThree(
      Iterator<Tuple3<String, Seq<Integer>, Option<Integer>>> all) {
    List<Tuple2<String, Integer>> states = new ArrayList<>();
    CollectionConverters.asJava(all).forEachRemaining(one -> {
      int sum = one._3().isDefined() ? one._3().get() : 0;
      for (int value : CollectionConverters.asJava(one._2())) sum += value;
      if (sum != 3) states.add(new Tuple2<>(one._1(), sum));
    });
    return CollectionConverters.asScala(states.iterator());
  }

  private static PairDStreamFunctions<String, Integer> functions(JavaPairDStream<String, Integer> pairs) {
    return new PairDStreamFunctions<>(pairs.dstream(), tag(), tag(), null);
  }

  private static <S> JavaPairDStream<String, S> stream(DStream<Tuple2<String, S>> stream) {
    return JavaPairDStream.fromPairDStream(stream, tag(), tag());
  }
}

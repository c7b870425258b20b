// What a program was given and what it gave, on one number of partitions.
import java.util.*;

class Recorded {
  /** A stream, a batch, an element. A batch that is null had no RDD. */
  final List<List<List<?>>> inputs = new ArrayList<>();
  final List<Output> outputs = new ArrayList<>();
  /** Where it failed: nowhere (null), when it started, or in the batch behind the last that is recorded. */
  String fails;

  static class Output {
    final boolean inOrder;
    /** Batch by batch, the elements as JSON. A batch that is null had no RDD. */
    final List<List<String>> batches;

    Output(boolean inOrder, List<List<String>> batches) {
      this.inOrder = inOrder;
      this.batches = batches;
    }
  }
}

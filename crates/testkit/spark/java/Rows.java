// An input that gives written batches, one after the other, and empty ones behind them.
import java.util.*;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.rdd.RDD;
import org.apache.spark.streaming.*;
import org.apache.spark.streaming.dstream.InputDStream;
import scala.Option;
import scala.reflect.ClassTag$;

@SuppressWarnings("deprecation")
class Rows<T> extends InputDStream<T> {
  private final ArrayList<List<T>> rows;
  private final int partitions;

  Rows(StreamingContext ssc, List<List<T>> rows, int partitions) {
    super(ssc, ClassTag$.MODULE$.apply(Object.class));
    this.rows = new ArrayList<>(rows);
    this.partitions = partitions;
  }

  @Override
  public Option<RDD<T>> compute(Time time) {
    int row = (int) (time.milliseconds() / Run.SECOND.milliseconds()) - 1;
    List<T> elements = row < rows.size() ? rows.get(row) : List.of();
    if (elements == null) return Option.empty();
    JavaSparkContext sc = JavaSparkContext.fromSparkContext(context().sparkContext());
    return Option.apply(sc.parallelize(elements, partitions).rdd());
  }

  @Override
  public void start() {}

  @Override
  public void stop() {}
}

// An operation of our own that adds two tensors, and writes over one of them where TensorFlow lets it.
//
// TensorFlow gives an operation the memory of an input where nothing else holds it, and the shape and the type fit: an
// intermediate of the same graph is given, a tensor that the caller holds is not.

#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace copycost {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("CopycostAdd")
    .Attr("T: {half, float, double}")
    .Input("a: T")
    .Input("b: T")
    .Output("sum: T")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape);

template <typename T>
class Add : public OpKernel {
 public:
  explicit Add(OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& a = context->input(0);
    const Tensor& b = context->input(1);
    OP_REQUIRES(context, a.shape() == b.shape(),
                tensorflow::errors::InvalidArgument("the shapes are ", a.shape().DebugString(), " and ",
                                                    b.shape().DebugString(), ": they must be equal"));
    Tensor* sum = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0, 1}, 0, a.shape(), &sum));
    const T* one = a.flat<T>().data();
    const T* other = b.flat<T>().data();
    T* result = sum->flat<T>().data();
    auto part = [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) result[i] = one[i] + other[i];
    };
    // On as many threads as the session has; one cycle an element is what it takes from cache.
    auto threads = context->device()->tensorflow_cpu_worker_threads();
    tensorflow::Shard(threads->num_threads, threads->workers, a.NumElements(), 1, part);
  }
};

#define REGISTER(type)                                                                       \
  REGISTER_KERNEL_BUILDER(                                                                   \
      Name("CopycostAdd").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), Add<type>)

REGISTER(Eigen::half);
REGISTER(float);
REGISTER(double);

}  // namespace copycost

// FlashInfer's own kernel selection, asked on a machine without a GPU: a line in, the name of the kernel out.
//
// It includes fmhaKernels.cuh of an installed flashinfer-python and the kernel list of its release, and calls
// TllmGenFmhaKernel::run to its end. The CUDA driver below launches nothing: a module is its path, a function is its
// name, and a launch notes which name it was given.

#include <flashinfer/trtllm/fmha/fmhaKernels.cuh>

#include <climits>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>

namespace {

std::set<std::string> names;
std::string launched;
bool clusters_fit = true;
char scratch[1 << 20];

void* keep(std::string const& name) { return const_cast<std::string*>(&*names.insert(name).first); }

Data_type dtype(std::string const& name) {
  if (name == "BF16") return DATA_TYPE_BF16;
  if (name == "FP16") return DATA_TYPE_FP16;
  if (name == "E4M3") return DATA_TYPE_E4M3;
  throw std::runtime_error("unknown dtype " + name);
}

}  // namespace

extern "C" {
CUresult cuModuleLoadData(CUmodule* module, void const*) {
  *module = nullptr;
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule, char const* name) {
  *function = static_cast<CUfunction>(keep(name));
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction, CUlaunchConfig const*) {
  *clusters = clusters_fit ? INT_MAX / 16 : 0;
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernelEx(CUlaunchConfig const*, CUfunction function, void**, void**) {
  launched = *reinterpret_cast<std::string*>(function);
  return CUDA_SUCCESS;
}
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, cuuint64_t const*, cuuint64_t const*,
                                cuuint32_t const*, cuuint32_t const*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute, CUdevice) {
  *value = 227 * 1024;  // of shared memory, the only thing that is asked
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult, char const** name) {
  *name = "an error of the driver that launches nothing";
  return CUDA_SUCCESS;
}
}

namespace flashinfer::trtllm_cubin_loader {
std::string getCubin(std::string const& path, std::string const&) { return path; }
}  // namespace flashinfer::trtllm_cubin_loader

namespace tensorrt_llm::kernels {
void runFmhaReduction(TllmGenFmhaKernelMetaInfo const&, KernelParams const&, int32_t, bool, cudaStream_t) {}
}  // namespace tensorrt_llm::kernels

int main() {
  using namespace tensorrt_llm::kernels;
  std::map<std::string, std::unique_ptr<TllmGenFmhaKernel>> loaded;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string q, kv, o;
    int sm = 0, context = 0, heads = 0, kv_heads = 0, dim = 0, page = 0, batch = 0, q_len = 0, kv_len = 0, window = 0;
    int sms = 0, fit = 0;
    words >> sm >> context >> q >> kv >> o >> heads >> kv_heads >> dim >> page >> batch >> q_len >> kv_len >> window >>
        sms >> fit;
    clusters_fit = fit != 0;
    launched.clear();
    try {
      auto& kernel = loaded[std::to_string(sm) + q + kv + o];
      if (!kernel) {
        kernel = std::make_unique<TllmGenFmhaKernel>(sTllmGenFmhaKernelMetaInfos, std::size(sTllmGenFmhaKernelMetaInfos),
                                                     dtype(q), dtype(kv),
#ifndef ATTNCONF_ONE_KV_DTYPE
                                                     dtype(kv),
#endif
                                                     dtype(o), sm);
        kernel->loadKernels();
      }
      // As trtllm_paged_attention_launcher fills it in (csrc/trtllm_fmha_kernel_launcher.cu).
      TllmGenFmhaRunnerParams params;
      params.qPtr = params.kPtr = params.vPtr = params.oPtr = scratch;
      params.kvPageIdxPtr = params.seqLensKvPtr = params.cumSeqLensQPtr = reinterpret_cast<int*>(scratch);
      params.multiCtasKvScratchPtr = scratch;
      params.multiCtasKvCounterPtr = reinterpret_cast<int*>(scratch);
      params.mHeadDimQk = params.mHeadDimV = dim;
      params.mNumHeadsQ = heads;
      params.mNumHeadsKv = kv_heads;
      params.mNumHeadsQPerKv = heads / kv_heads;
      params.mBatchSize = batch;
      params.mMaxSeqLenKv = kv_len;
      params.mMaxSeqLenQ = q_len;
      params.mSumOfSeqLensQ = q_len * batch;
      params.mMaxNumPagesPerSeqKv = (kv_len + page - 1) / page;
      params.mNumTokensPerPage = page;
      params.mNumPagesInMemPool = params.mMaxNumPagesPerSeqKv * batch;
      params.mQkvLayout = QkvLayout::PagedKv;
      params.mMultiProcessorCount = sms;
      params.qStrideHeads = params.kStrideKeysValues = params.vStrideKeysValues = dim;
      params.qStrideTokens = heads * dim;
      params.kStrideHeads = params.vStrideHeads = page * dim;
      params.kStrideBatch = params.vStrideBatch = kv_heads * page * dim;
      params.mChunkedAttentionSize = INT_MAX;
      params.mAttentionWindowSize = window < 0 ? INT_MAX : window + 1;
      params.mUsesSharedPagedKvIdx = true;
      params.mScaleSfKv = 1.0f;
      params.mMaskType = TrtllmGenAttentionMaskType::Causal;
      params.mKernelType = context ? FmhaKernelType::Context : FmhaKernelType::Generation;
      params.mTileScheduler = context ? TileScheduler::Persistent : TileScheduler::Static;
      params.mMultiCtasKvMode = !context;
      auto [found, info] = kernel->checkIfKernelExist(params);
      if (!found) throw std::runtime_error("Missing TRTLLM-GEN kernel: " + info);
      kernel->run(params);
      std::cout << "= " << launched << '\n';
    } catch (std::exception const& error) {
      std::string text = error.what();
      for (char& letter : text) {
        if (letter == '\n') letter = ' ';
      }
      std::cout << "! " << text << '\n';
    }
  }
}

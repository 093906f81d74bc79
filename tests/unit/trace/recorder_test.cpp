// What is recorded is what is read. Each recording is made by a child of its own, as a process records once.
#include "trace/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "ace/ace.h"
#include "trace/live_blocks.h"
#include "trace/reader.h"
#include "unit/fake_os.h"

namespace ace::trace {
namespace {

const void *at(uint64_t address) { return reinterpret_cast<const void *>(address); }

class Recording : public testing::Test {
 protected:
  Recording() {
    folder_ = std::filesystem::temp_directory_path() / ("ace-trace-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "run.ace";
  }
  ~Recording() override { std::filesystem::remove_all(folder_); }

  // Runs it in a child that records; the child's exit status.
  int record(const std::function<void()> &run, bool ends = true) {
    const pid_t child = fork();
    if (child == 0) {
      ace_option_set("record", path_.c_str());
      run();
      if (ends) end_recording();
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  void load(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    data_.assign(reinterpret_cast<const std::byte *>(bytes.data()),
                 reinterpret_cast<const std::byte *>(bytes.data() + bytes.size()));
  }

  // All events but times, each with its heap; how reading ends. In times_ and threads_: when each was, in
  // microseconds since the recording began, as far as it is told, and by which thread.
  Status read(std::vector<std::pair<uint32_t, Event>> &events) {
    times_.clear();
    threads_.clear();
    Reader reader(data_.data(), data_.size());
    const char *text;
    size_t length;
    if (!reader.read_header(text, length)) return Status::kDamaged;
    header_.assign(text, length);
    ChunkHeader header;
    const std::byte *payload;
    Status status;
    while ((status = reader.next(header, payload)) == Status::kChunk) {
      ChunkReader chunk(payload, header.bytes);
      uint32_t count = 0, thread = 0;
      uint64_t time = header.microseconds;
      for (Event event{}; !chunk.is_over(); ++count) {
        if (!chunk.next(event)) return Status::kDamaged;
        if (event.op == Op::kThread) thread = event.code;
        if (event.op == Op::kTime) {
          time += event.size;
          continue;
        }
        events.emplace_back(header.heap, event);
        times_.push_back(time);
        threads_.push_back(thread);
      }
      EXPECT_EQ(count, header.events);
    }
    ended_ = header.microseconds;
    return status;
  }

  std::filesystem::path folder_, path_;
  std::vector<std::byte> data_;
  std::string header_;
  std::vector<uint64_t> times_;
  uint64_t ended_ = 0;  // where the recording ends whole
  std::vector<uint32_t> threads_;
};

TEST_F(Recording, EachEventComesBack) {
  record([] {
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    stream->note_allocation(2, false, at(0x7fff12345670), 100);
    stream->note_allocation(1, true, at(16), 0);
    stream->note_realloc(at(16), at(0x7ffffffffff8), size_t{1} << 40);
    stream->note_hint(3, ~uint64_t{0});
    stream->note_free(at(0x7fff12345670));
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0].second.op, Op::kAlloc);
  EXPECT_EQ(events[0].second.code, 2u);
  EXPECT_EQ(events[0].second.address, 0x7fff12345670u);
  EXPECT_EQ(events[0].second.size, 100u);
  EXPECT_EQ(events[1].second.op, Op::kZeroed);
  EXPECT_EQ(events[1].second.size, 0u);
  EXPECT_EQ(events[2].second.op, Op::kRealloc);
  EXPECT_EQ(events[2].second.old_address, 16u);
  EXPECT_EQ(events[2].second.address, 0x7ffffffffff8u);
  EXPECT_EQ(events[2].second.size, uint64_t{1} << 40);
  EXPECT_EQ(events[3].second.op, Op::kHint);
  EXPECT_EQ(events[3].second.code, 3u);
  EXPECT_EQ(events[3].second.size, ~uint64_t{0});
  EXPECT_EQ(events[4].second.op, Op::kFree);
  EXPECT_EQ(events[4].second.address, 0x7fff12345670u);
  EXPECT_NE(header_.find("\"host\":\"test\""), std::string::npos);
}

// Written once and by another program (CRC by zlib): what old files hold must stay readable.
TEST_F(Recording, TheFormatStaysAsItIs) {
  // clang-format off
  static constexpr unsigned char kGolden[] = {
      0x41, 0x43, 0x45, 0x74, 0x72, 0x61, 0x63, 0x65, 0x01, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00, 0x00,
      0x7b, 0x22, 0x68, 0x6f, 0x73, 0x74, 0x22, 0x3a, 0x22, 0x67, 0x6f, 0x6c, 0x64, 0x65, 0x6e, 0x22,
      0x7d, 0x41, 0x45, 0x43, 0x4b, 0x14, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0xa3, 0x86, 0x55,
      0x7a, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xfa, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x90, 0x19, 0x80, 0x08, 0x09, 0x80, 0x08, 0x1d, 0xfb, 0x3f, 0xac, 0x02, 0x80, 0x10, 0xe6,
      0x5d, 0x24, 0x4d, 0xfa, 0x3f, 0x41, 0x45, 0x4e, 0x44, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x28, 0x23, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00,
  };
  // clang-format on
  const auto *bytes = reinterpret_cast<const std::byte *>(kGolden);
  data_.assign(bytes, bytes + sizeof kGolden);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  EXPECT_EQ(header_, "{\"host\":\"golden\"}");
  ASSERT_EQ(events.size(), 6u);
  for (auto &[heap, event] : events) EXPECT_EQ(heap, 5u);
  const auto is = [&](size_t i, Op op, uint32_t code, uint64_t size, uint64_t address) {
    const Event &event = events[i].second;
    EXPECT_EQ(event.op, op) << i;
    if (op == Op::kAlloc || op == Op::kZeroed || op == Op::kHint || op == Op::kThread)
      EXPECT_EQ(event.code, code) << i;
    if (op != Op::kFree && op != Op::kThread) EXPECT_EQ(event.size, size) << i;
    if (address != 0) EXPECT_EQ(event.address, address) << i;
  };
  is(0, Op::kAlloc, 2, 100, 0x1000);
  is(1, Op::kZeroed, 1, 0, 0x2000);
  is(2, Op::kThread, 3, 0, 0);
  is(3, Op::kRealloc, 0, 300, 0x3000);
  EXPECT_EQ(events[3].second.old_address, 0x1000u);
  is(4, Op::kHint, 4, 77, 0);
  is(5, Op::kFree, 0, 0, 0x2000);
}

TEST_F(Recording, ManyChunksHoldTheSameAsAModel) {
  constexpr int kCount = 300'000;
  const auto play = [](auto &&allocate, auto &&release) {
    std::mt19937_64 random(1);
    std::vector<uint64_t> live;
    for (int i = 0; i < kCount; ++i) {
      if (live.size() < 100 || random() % 2 == 0) {
        live.push_back(random() % (uint64_t{1} << 47) & ~uint64_t{15});
        allocate(live.back(), random() % 5000);
      } else {
        std::swap(live[random() % live.size()], live.back());
        release(live.back());
        live.pop_back();
      }
    }
  };
  record([&] {
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    play([&](uint64_t address, size_t size) { stream->note_allocation(0, false, at(address), size); },
         [&](uint64_t address) { stream->note_free(at(address)); });
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  ASSERT_EQ(events.size(), size_t{kCount});
  size_t i = 0;
  play(
      [&](uint64_t address, size_t size) {
        const Event &event = events[i++].second;
        ASSERT_TRUE(event.op == Op::kAlloc && event.address == address && event.size == size) << i;
      },
      [&](uint64_t address) {
        const Event &event = events[i++].second;
        ASSERT_TRUE(event.op == Op::kFree && event.address == address) << i;
      });
}

TEST_F(Recording, ThreadsThatShareAHeapAreTold) {
  record([] {
    int heap = 0;
    Stream *stream = open_stream("test", &heap, true);
    const auto work = [&] {
      for (uint64_t i = 1; i <= 1000; ++i) {
        stream->lock().lock();
        stream->note_allocation(0, false, at(i * 16), 1);
        stream->lock().unlock();
      }
    };
    work();
    std::thread(work).join();
    std::thread one(work), two(work);
    one.join();
    two.join();
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  std::vector<int> of_thread(10);
  uint32_t thread = 0;
  for (auto &[heap, event] : events) {
    if (event.op == Op::kThread) thread = event.code;
    if (event.op == Op::kAlloc) ++of_thread.at(thread);
  }
  std::erase(of_thread, 0);
  EXPECT_EQ(of_thread, std::vector<int>(4, 1000));
}

TEST_F(Recording, AThreadIsToldInEachChunkAnew) {
  record([] {
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    stream->note_allocation(0, false, at(16), 1);
    std::thread([&] {
      for (uint64_t i = 1; i < 200'000; ++i) stream->note_allocation(0, false, at(i * 7919 * 16), i);
    }).join();
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  size_t of_the_first = 0;
  for (size_t i = 0; i < events.size(); ++i)
    of_the_first += events[i].second.op == Op::kAlloc && threads_[i] == threads_[0];
  EXPECT_EQ(of_the_first, 1u);
}

TEST_F(Recording, TellsTheTimeAndIsWrittenEachSecond) {
  constexpr uint64_t kMs = 1'000'000, kLong = 1100 * kMs;
  record(
      [] {
        test::FakeOs fake;
        int heap = 0;
        Stream *stream = open_stream("test", &heap, false);
        fake.advance(5 * kMs);
        stream->note_hint(1, 0);
        fake.advance(7 * kMs);
        stream->note_hint(2, 0);
        fake.advance(kLong);
        stream->note_allocation(0, false, at(16), 1 << 20);  // heavy enough to look at the clock
        fake.advance(3 * kMs);
        stream->note_hint(3, 0);
        fake.advance(kLong);
        stream->note_allocation(0, false, at(32), 1 << 20);
      },
      false);
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kTruncated) << "the process was killed";
  EXPECT_EQ(times_, (std::vector<uint64_t>{5000, 12'000, 1'112'000, 1'115'000}));
}

TEST_F(Recording, PartsOfAMicrosecondAreNotLost) {
  record([] {
    test::FakeOs fake;
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    for (int i = 0; i < 1000; ++i) {
      fake.advance(1500);
      stream->note_hint(1, 0);
    }
    fake.advance(2'000'000);
    end_recording();
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kEnd);
  ASSERT_EQ(times_.size(), 1000u);
  EXPECT_EQ(times_.back(), 1500u);
  EXPECT_EQ(ended_, 3500u);
}

TEST_F(Recording, AStreamThatIsClosedLeavesNothingAndOneRecordingIsAll) {
  const int status = record([] {
    test::FakeOs fake;
    int heap = 0;
    Stream *first = open_stream("test", &heap, false);
    const int64_t before = fake.mapped();
    close_stream(open_stream("test", &heap, false));
    if (fake.mapped() != before) _exit(2);
    first->note_free(at(16));
    end_recording();
    if (open_stream("test", &heap, false) != nullptr) _exit(3);
  });
  EXPECT_EQ(status, 0);
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kEnd);
  EXPECT_EQ(events.size(), 1u) << "those before it go on";
}

TEST_F(Recording, WhatMayBeLargeIsTimed) {
  record([] {
    test::FakeOs fake;
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    fake.advance(5'000'000);
    stream->note_realloc(at(4096), at(16), 1);
    fake.advance(7'000'000);
    stream->note_free(at(8192));
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kEnd);
  EXPECT_EQ(times_, (std::vector<uint64_t>{5000, 12'000}));
}

TEST_F(Recording, AChildFindsNoStreamsLockTaken) {
  const int status = record([] {
    ace_heap *heap = ace_heap_create(nullptr);  // which watches forks
    Stream *stream = open_stream("test", heap, true);
    int child_status = -1;
    std::atomic<bool> holds{false}, over{false};
    std::thread other([&] {
      Locked locked(stream->lock());
      holds = true;
      while (!over) std::this_thread::yield();
    });
    while (!holds) std::this_thread::yield();
    const pid_t child = fork();
    if (child == 0) {
      alarm(10);
      Locked locked(stream->lock());
      _exit(0);
    }
    waitpid(child, &child_status, 0);
    over = true;
    other.join();
    if (child_status != 0) _exit(2);
  });
  EXPECT_EQ(status, 0);
}

TEST_F(Recording, WhoComesToNamesThatAreTakenHasAThird) {
  record([&] {
    std::ofstream(path_) << "mine";
    std::ofstream(path_.string() + "." + std::to_string(getpid()))
        << "the program's that this process was before";
    int heap = 0;
    open_stream("test", &heap, false)->note_free(at(16));
  });
  std::vector<std::filesystem::path> third;
  for (const auto &entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().extension() == ".2") third.push_back(entry.path());
  }
  ASSERT_EQ(third.size(), 1u);
  load(third[0]);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kEnd);
  EXPECT_EQ(events.size(), 1u);
}

TEST_F(Recording, EndsWholeWhileOtherThreadsGoOn) {
  for (int round = 0; round < 10; ++round) {
    std::filesystem::remove(path_);
    record([] {
      int heap = 0;
      Stream *stream = open_stream("test", &heap, true);
      std::atomic<uint64_t> noted{0};
      const auto work = [&] {
        for (;;) {
          Locked locked(stream->lock());
          stream->note_allocation(0, false, at(++noted << 30), 1);
        }
      };
      std::thread(work).detach();
      std::thread(work).detach();
      while (noted < 20'000) std::this_thread::yield();
      end_recording();
      _exit(0);  // before what they use is gone
    });
    load(path_);
    std::vector<std::pair<uint32_t, Event>> events;
    ASSERT_EQ(read(events), Status::kEnd);
    std::erase_if(events, [](auto &each) { return each.second.op != Op::kAlloc; });
    ASSERT_GE(events.size(), 19'000u);
    for (size_t i = 0; i < events.size(); ++i) ASSERT_EQ(events[i].second.address, (i + 1) << 30);
  }
}

TEST_F(Recording, HeapsHaveStreamsOfTheirOwnAndHintsFindThem) {
  record([] {
    int one = 0, two = 0, three = 0;
    Stream *first = open_stream("test", &one, false), *second = open_stream("test", &two, true);
    first->note_allocation(0, false, at(16), 1);
    second->note_allocation(0, false, at(32), 2);
    pass_hint_on(&two, 4, 0);
    pass_hint_on(&three, 4, 0);
    close_stream(first);
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].first, 0u);
  EXPECT_EQ(events[1].first, 1u);
  EXPECT_EQ(events[2].first, 1u);
  EXPECT_EQ(events[2].second.op, Op::kHint);
}

TEST_F(Recording, ForksRecordIntoFilesOfTheirOwnOnceTheyAllocate) {
  pid_t *pids =
      static_cast<pid_t *>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const int status = record([&] {
    if (!freopen((folder_ / "said").c_str(), "w", stderr)) _exit(2);
    test::FakeOs fake;
    ace_heap *heap = ace_heap_create(nullptr);  // which watches forks
    Stream *stream = open_stream("test", heap, false);
    stream->note_allocation(0, false, at(16), 1);
    fake.advance(5'000'000'000);
    for (int i = 0; i < 2; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        if (i == 1) {
          stream->note_free(at(16));
          open_stream("test", &fake, false)->note_free(at(32));
        }
        end_recording();
        _exit(0);
      }
      waitpid(pids[i] = child, nullptr, 0);
    }
  });
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(std::filesystem::exists(path_.string() + "." + std::to_string(pids[0])));
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kEnd);
  EXPECT_EQ(events.size(), 1u);
  events.clear();
  load(path_.string() + "." + std::to_string(pids[1]));
  EXPECT_EQ(read(events), Status::kEnd);
  ASSERT_EQ(events.size(), 2u) << "of both streams, in one file";
  EXPECT_EQ(events[0].second.op, Op::kFree);
  EXPECT_EQ(times_[0], 0u) << "its recording begins with it";
  EXPECT_EQ(std::filesystem::file_size(folder_ / "said"), 0u);
  munmap(pids, 4096);
}

TEST_F(Recording, WhatIsCutOffOrDamagedIsReadUpToThere) {
  record([] {
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    for (uint64_t i = 1; i < 400'000; ++i) stream->note_allocation(0, false, at(i * 7919 * 16), i);
  });
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  ASSERT_EQ(read(events), Status::kEnd);
  const size_t all = events.size();
  const std::vector<std::byte> whole = data_;
  for (size_t size :
       {whole.size() - 1, whole.size() - sizeof(ChunkHeader) - 1, whole.size() / 2, size_t{400}}) {
    data_.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    events.clear();
    EXPECT_EQ(read(events), Status::kTruncated);
    EXPECT_LE(events.size(), all);
  }
  for (size_t place : {whole.size() / 2, whole.size() - 100}) {
    data_ = whole;
    data_[place] ^= std::byte{1};
    events.clear();
    EXPECT_EQ(read(events), Status::kDamaged);
    EXPECT_LT(events.size(), all);
  }
  for (size_t place : {size_t{0}, offsetof(FileHeader, version)}) {
    data_ = whole;
    data_[place] ^= std::byte{1};
    EXPECT_EQ(read(events), Status::kDamaged);
  }
  data_ = whole;
  data_.resize(sizeof(FileHeader) + header_.size() - 1);
  EXPECT_EQ(read(events), Status::kDamaged) << "what was recorded is cut off";
}

TEST_F(Recording, AFullDiskEndsItAndTheProgramGoesOn) {
  const int status = record([this] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit most{1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &most);
    if (!freopen((folder_ / "said").c_str(), "w", stderr)) _exit(2);
    int heap = 0;
    Stream *stream = open_stream("test", &heap, false);
    errno = EDOM;
    for (uint64_t i = 1; i < 1'000'000; ++i) stream->note_allocation(0, false, at(i * 7919 * 16), i);
    if (errno != EDOM) _exit(4);
    if (is_recording() || open_stream("test", &heap, false) != nullptr) _exit(3);
  });
  EXPECT_EQ(status, 0);
  load(path_);
  std::vector<std::pair<uint32_t, Event>> events;
  EXPECT_EQ(read(events), Status::kTruncated);
  EXPECT_GT(events.size(), 50'000u);
  std::ifstream said(folder_ / "said");
  const std::string text((std::istreambuf_iterator<char>(said)), {});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << "told once: " << text;
}

TEST_F(Recording, WithoutTheOptionNothingIsRecorded) {
  int heap = 0;
  EXPECT_EQ(open_stream("test", &heap, false), nullptr);
  EXPECT_FALSE(is_recording());
}

TEST(Numbers, ComeBackAndEndWhereTheyDo) {
  std::byte bytes[kNumberMax];
  for (uint64_t number : {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 62, ~uint64_t{0}}) {
    const std::byte *end = put_number(bytes, number), *from = bytes;
    uint64_t found;
    EXPECT_TRUE(get_number(from, end, found));
    EXPECT_EQ(found, number);
    EXPECT_EQ(from, end);
    from = bytes;
    EXPECT_FALSE(get_number(from, end - 1, found));
  }
  for (auto &byte : bytes) byte = std::byte{0xff};
  const std::byte *from = bytes;
  uint64_t found;
  EXPECT_FALSE(get_number(from, bytes + kNumberMax, found));
  bytes[kNumberMax - 1] = std::byte{2};  // of 65 bits
  from = bytes;
  EXPECT_FALSE(get_number(from, bytes + kNumberMax, found));
  for (int64_t n : {int64_t{0}, int64_t{-1}, int64_t{1} << 60, INT64_MIN, INT64_MAX})
    EXPECT_EQ(to_signed(from_signed(n)), n);
}

TEST(Live, HoldsWhatAModelDoes) {
  LiveBlocks<uint64_t> blocks;
  std::vector<std::pair<uint64_t, uint64_t>> model;
  std::mt19937_64 random(2);
  for (int i = 0; i < 200'000; ++i) {
    if (model.empty() || random() % 5 < 3) {
      model.emplace_back(uint64_t(i + 1) * 16, random());
      blocks.put(model.back().first, model.back().second);
    } else {
      std::swap(model[random() % model.size()], model.back());
      const uint64_t *value = blocks.get(model.back().first);
      ASSERT_NE(value, nullptr);
      ASSERT_EQ(*value, model.back().second);
      blocks.remove(model.back().first);
      ASSERT_EQ(blocks.get(model.back().first), nullptr);
      model.pop_back();
    }
    ASSERT_EQ(blocks.size(), model.size());
  }
}

}  // namespace
}  // namespace ace::trace

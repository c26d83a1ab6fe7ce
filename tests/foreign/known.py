"""The tests of others that do not pass against mob, by suite, each with its reason.

The tests in `LEFT_OUT` are not run, because they test the other project's own server or pool. Those in `EXPECTED` run
and have to fail: one that passes is an error, and its row has to go.
"""

from __future__ import annotations

import os

LEFT_OUT: dict[str, dict[str, str]] = {
    "werkzeug": {
        "test_server[reloader]": "werkzeug's reloader; mob has `mob run --watch`",
        "test_reloader_sys_path[stat]": "werkzeug's reloader",
        "test_reloader_sys_path[watchdog]": "werkzeug's reloader",
        "test_chunked_request[False]": "mob says the length of a body in chunks in CONTENT_LENGTH, as waitress does",
        "test_chunked_request[True]": "a request with both lengths is refused with 400, as RFC 9112 advises",
        "test_streaming_close_response[]": "werkzeug's server speaks HTTP/1.0 here, without chunks; mob's sends chunks",
        "test_streaming_close_response[crash]": "the same; with chunks the client sees that the answer is cut",
        "test_multiple_headers_concatenated": "wants blanks at the end of a value; gunicorn and waitress strip them",
        "test_multiline_header_folding": "folded headers are refused with 400, as RFC 9112 demands",
    },
    "django": {
        "test_closes_connections": "tests the class of Django's own server, which is replaced",
        "test_server_class": "tests the class of Django's own server",
        "test_set_up_class": "tests how Django's own server fails to start",
        "test_port_bind": "starts a second server of Django's own class",
        "test_specified_port_bind": "starts a server of Django's own class",
        "test_closes_connection_without_content_length": "Django's server closes where mob sends chunks",
        "test_keep_alive_on_connection_with_content_length": "wants a connection kept that the client asks to close",
        "test_keep_alive_connection_clears_previous_request_data": "the same",
        **({"test_readonly_root": "root may write everywhere, whatever serves"} if os.geteuid() == 0 else {}),
    },
    "httpbin": {
        "HttpbinTestCase::test_post_chunked": "its client announces chunks and sends none, which is a 400",
    },
    "executors": {
        "ProcessPoolExecutorTest.test_max_workers_too_large": "a limit of Windows",
        "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": "contexts of multiprocessing",
        "ProcessPoolExecutorTest.test_idle_process_reuse_one": "counts workers that are started one by one",
        "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": "the same",
        "ProcessPoolExecutorTest.test_max_tasks_per_child": "a worker serves until another is in its place",
        "ProcessPoolExecutorTest.test_python_finalization_error": "replaces threads of CPython's executor",
        "ExecutorDeadlockTest.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "the same",
    },
    "executors-killed": {
        "ProcessPoolExecutorTest.test_saturation": "repeated calls acquire a semaphore more often than it is released",
        "ProcessPoolShutdownTest.test_processes_terminate": "the same",
        "ExecutorDeadlockTest": "its calls crash their worker whenever they are repeated",
        "ProcessPoolExecutorTest.test_killed_child": "its call is killed by the test, and would be repeated",
        "WaitTests.test_first_completed": "a repeated call ends after one that should be later",
        "WaitTests.test_first_exception": "the same",
        "WaitTests.test_first_exception_some_already_complete": "the same",
    },
    "joblib-killed": {
        "test_parallel_with_interactively_defined_functions[mob]": "a script that has ten seconds",
        "test_dispatch_race_condition[200-12-n_jobs-auto]": "starts twelve workers, which takes longer than the tasks",
        "test_dispatch_race_condition[25-12-2 * n_jobs-1]": "the same",
        "test_dispatch_race_condition[250-12-all-1]": "the same",
        "test_dispatch_race_condition[250-12-2 * n_jobs-7]": "the same",
        "test_dispatch_race_condition[200-12-2 * n_jobs-auto]": "the same",
        "test_parallel_unordered_generator_returns_fastest_first": "a repeated task ends after later ones",
        "test_abort_backend": "has to be over within 20 seconds; a task that is repeated sleeps ten of them again",
        "test_multiple_generator_call_separated_gc": "has to be over within five seconds",
        "test_initializer_reused": "counts workers; one that was killed is replaced by another",
        "test_initializer_not_reused": "counts workers; a repeated task may run in one that has had another",
        "test_threadpool_limitation_in_child_loky": "preloaded libraries have read the variables already",
        "test_threadpool_limitation_in_child_context": "the same",
        "test_threadpool_limitation_in_child_override": "the same",
    },
    "dask-killed": {
        "test_bag_groupby_pure_hash": "its tasks append to a file, and append again when they are repeated",
        "test_bag_groupby_normal_hash": "the same",
        "test_bag_groupby_none[synchronous-disk]": "the same",
        "test_bag_groupby_none[processes-disk]": "the same",
        "test_bag_groupby_dataclass[synchronous-disk-none_field]": "the same",
        "test_bag_groupby_dataclass[synchronous-disk-no_none_fields]": "the same",
        "test_bag_groupby_dataclass[processes-disk-none_field]": "the same",
        "test_bag_groupby_dataclass[processes-disk-no_none_fields]": "the same",
        "test_groupby": "the same",
        "test_groupby_with_indexer": "the same",
        "test_groupby_with_npartitions_changed": "the same",
        "test_groupby_with_scheduler_func": "the same",
        "test_repeated_groupby": "the same",
        "test_msgpack_unicode": "the same",
    },
}
EXPECTED: dict[str, dict[str, str]] = {
    "executors": {
        "ProcessPoolExecutorTest.test_killed_child": "one death costs one call: the pool goes on",
        "ProcessPoolExecutorTest.test_traceback": "the remote traceback is the text of the cause, which has no `tb`",
        "ProcessPoolExecutorTest.test_max_workers_negative": "the parameter is called `workers`, as the message says",
    },
    "joblib": {
        "test_nested_parallel_warnings[mob-multiprocessing-True]": "joblib counts how deep its own workers are nested",
        "test_nested_parallel_warnings[multiprocessing-mob-True]": "only multiprocessing forbids children of children",
        "test_nested_parallel_warnings[threading-mob-True]": "warns of a fork beside threads, which mob does not make",
        "test_nested_loop[loky-mob]": "a worker of loky has not imported mob.joblib, which registers the backend",
        "test_parallel_with_interactively_defined_bound_method_loky": "looks for loky's lines in a log",
        "test_auto_memmap_on_arrays_from_generator[mob]": "wants arrays in files; they travel through shared memory",
        "test_memmapping_leaks[mob]": "the same",
    },
    "dask": {
        "test_take_npartitions_warn": "asks for the process of the test itself, to see a warning there",
        "test_to_delayed_optimize_graph": "counts calls by a variable of the test's process",
        "test_from_delayed_iterator": "a generator cannot be pickled",
        "test_repartition_partition_size_complex_dtypes": "sys.getsizeof of an array is another once it was pickled",
        "test_bag_with_single_callable": "a function that was pickled is equal to no other",
        "test_reductions_are_lazy": "looks at a list of the test's process",
        "test_traverse_false": "an object that was pickled is not the same",
        "test_process_initializer[processes-proc_init-expected_results2]": "the initializer of another pool",
        "test_custom_context_used_python3_posix": "wants a forked copy of the test's process",
    },
}
for _suite in ("joblib", "dask"):
    EXPECTED[f"{_suite}-killed"] = EXPECTED[_suite]

// Threads that modules start. See src/host/threads.rs.
    .text
midflight_with_caller midflight_pthread_create, x4, {pthread_create}
midflight_with_caller midflight_thrd_create, x3, {thrd_create}
midflight_with_caller midflight_pthread_key_create, x2, {pthread_key_create}
midflight_with_caller midflight_tss_create, x2, {tss_create}
midflight_with_caller midflight_timer_create, x3, {timer_create}
midflight_with_caller midflight_mq_notify, x2, {mq_notify}
midflight_with_caller midflight_getaddrinfo_a, x4, {getaddrinfo_a}
midflight_with_caller midflight_dlsym, x2, {dlsym}
midflight_with_caller midflight_dlvsym, x3, {dlvsym}
midflight_with_caller midflight_dlopen, x2, {dlopen}
midflight_with_caller midflight_dladdr, x2, {dladdr}

midflight_entry midflight_thread_entry, {arrive}
midflight_entry midflight_std_thread_entry, {arrive_std}
midflight_entry midflight_notified_entry, {arrive_notified}

midflight_start_thread midflight_std_start_thread, {wrap}

"""What the servers are known not to do, each with the tests that show it. Everything else they must do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """``tests`` are names of test functions, with their parameter in brackets where only some cases fail."""

    server: str
    reason: str
    tests: tuple[str, ...]

    def covers(self, name: str) -> bool:
        plain = name.partition("[")[0]
        return plain in self.tests or any(test in name for test in self.tests if "[" in test)


LIMITS: tuple[Limit, ...] = (
    # moto 5.2
    Limit("moto", "its router does not match a line feed", ("test_awkward_keys_work_everywhere[moto-new_line]",)),
    Limit("moto", "takes keys of any length", ("test_a_key_of_1025_bytes_is_refused",)),
    Limit("moto", "takes any amount of metadata", ("test_more_than_two_kilobytes_of_metadata_are_refused",)),
    Limit("moto", "ignores If-Match on completion", ("test_complete_if_match_replaces_only_what_was_seen",)),
    Limit(
        "moto",
        "ignores copy-source If-Match",
        ("test_copy_checks_the_sources_etag", "test_copying_a_part_checks_the_sources_etag"),
    ),
    Limit(
        "moto", "ignores the etags of DeleteObjects", ("test_of_many_only_those_are_deleted_that_are_what_was_seen",)
    ),
    Limit("moto", "ignores If-None-Match on copies", ("test_copy_if_absent_never_replaces",)),
    Limit(
        "moto",
        "answers 500 where an upload is unknown",
        ("test_an_aborted_upload_takes_no_parts", "test_an_aborted_upload_cannot_be_completed"),
    ),
    # Ceph RADOS gateway 20.2
    Limit("server", "takes any amount of metadata", ("test_more_than_two_kilobytes_of_metadata_are_refused",)),
    Limit("server", "sorts the parts itself", ("test_wrong_parts_are_refused[server-order]",)),
    Limit("server", "ignores copy-source If-Match on parts", ("test_copying_a_part_checks_the_sources_etag",)),
    Limit("server", "ignores If-None-Match on copies", ("test_copy_if_absent_never_replaces",)),
    Limit("server", "answers 500 to completing an unknown upload", ("test_an_aborted_upload_cannot_be_completed",)),
    Limit("server", "does not name a copy's version", ("test_a_versioned_bucket_names_the_version_of_a_copy",)),
)

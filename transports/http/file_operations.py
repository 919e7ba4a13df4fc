"""The HTTP door: the calls of the files of jobs, in the table of what can be called."""

from __future__ import annotations

from holon.domain import paths
from holon.transports.http.files import FileRoutes
from holon.transports.http.inputs import FILE_NAME, JOB_ID, OF_FILES, OF_UPLOAD
from holon.transports.http.operations import OF_ONE_JOB, Answer, Operation

_OF_FILES = ("JOB_NOT_FOUND", "ROUTE_NOT_FOUND", "FILES_GONE", "FILES_OFF", *OF_ONE_JOB, "FILES_UNAVAILABLE")


def of_files(routes: FileRoutes) -> list[Operation]:
    """The calls that list, store and fetch files."""
    return [
        Operation(
            "list_job_files",
            "GET",
            paths.JOB_FILES,
            routes.list,
            "List the files of a job",
            "Files by name.",
            (Answer(200, "A page of files", "FilePage"),),
            (JOB_ID, *OF_FILES),
            _OF_FILES,
        ),
        Operation(
            "allow_job_file_upload",
            "GET",
            paths.JOB_FILES_UPLOAD,
            routes.upload_url,
            "Get a URL to store a file",
            "Anybody who has the URL can store this one file by PUT. The file goes to S3 directly, not through the "
            "node.",
            (Answer(200, "The URL", "UploadUrl"),),
            (JOB_ID, *OF_UPLOAD),
            ("FILE_NAME_INVALID", *_OF_FILES),
        ),
        Operation(
            "store_job_file",
            "PUT",
            paths.JOB_FILES_CONTENT,
            routes.store,
            "Store a file",
            "The body is the file, up to 5 GiB. It replaces an older file of the same name.",
            (Answer(200, "The file is stored", "Uploaded"),),
            (JOB_ID, FILE_NAME),
            ("FILE_NAME_INVALID", "FILE_TOO_LARGE", "UPLOADS_FULL", "REQUEST_TIMEOUT", *_OF_FILES),
            takes_body=True,
            takes_file=True,
        ),
        Operation(
            "fetch_job_file",
            "GET",
            paths.JOB_FILES_DOWNLOAD,
            routes.download,
            "Fetch a file",
            "Redirects to a URL that is valid for a minute and needs no token.",
            (Answer(302, "The URL", "DownloadUrl", headers={"Location": "the URL of the file; a secret"}),),
            (JOB_ID, FILE_NAME),
            ("FILE_NAME_INVALID", "FILE_NOT_FOUND", *_OF_FILES),
        ),
    ]

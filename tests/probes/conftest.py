"""One BLAS thread for these tests where that can be arranged.

Their matrices are small, and on a busy machine threads that wait for each other take longer than the work.
"""

import pytest


@pytest.fixture(scope="package", autouse=True)
def one_blas_thread():
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; without it the tests are the same, only slower on a busy machine
        yield
        return
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def ripser_where_it_is_needed(request):
    """rtd rests on an optional package; its cases are left out where that is not installed."""
    given = getattr(getattr(request.node, "callspec", None), "params", {}).values()
    if any(isinstance(value, str) and value == "rtd" for value in given):
        pytest.importorskip("ripser")
